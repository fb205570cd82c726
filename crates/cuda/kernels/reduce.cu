// Sums and extremes over the middle axis of (outer, extent, inner). Sums are taken in double.

// One thread for each result: short axes.
KERNEL(sum_short)(const STORED* x, STORED* to, u32 n, u32 extent, u32 inner) {
    FOR_EACH(i, n) {
        const STORED* at = x + (size_t)(i / inner) * extent * inner + i % inner;
        double sum = 0;
        for (u32 e = 0; e < extent; e++) sum += at[(size_t)e * inner];
        to[i] = (REAL)sum;
    }
}

// Block (o, p) sums piece p of row o; the pieces of a row lie `outer` apart.
KERNEL(sum_rows)(const STORED* x, double* partial, u32 outer, u32 extent, u32 piece) {
    __shared__ double lanes[256];
    u32 end = min((blockIdx.y + 1) * piece, extent);
    const STORED* row = x + (size_t)blockIdx.x * extent;
    double sum = 0;
    for (u32 e = blockIdx.y * piece + threadIdx.x; e < end; e += blockDim.x) sum += row[e];
    sum = line_sum(sum, lanes);
    if (threadIdx.x == 0) partial[(size_t)blockIdx.y * outer + blockIdx.x] = sum;
}

// Block (o·strips + s, p) sums piece p of 32 columns.
KERNEL(sum_columns)(const STORED* x, double* partial, u32 outer, u32 extent, u32 inner, u32 piece) {
    __shared__ double lanes[LINES][COLUMNS];
    u32 strips = (inner + COLUMNS - 1) / COLUMNS;
    u32 o = blockIdx.x / strips, column = blockIdx.x % strips * COLUMNS + threadIdx.x;
    u32 end = min((blockIdx.y + 1) * piece, extent);
    double sum = 0;
    if (column < inner) {
        for (u32 e = blockIdx.y * piece + threadIdx.y; e < end; e += LINES) {
            sum += x[((size_t)o * extent + e) * inner + column];
        }
    }
    sum = column_sum(sum, lanes);
    if (threadIdx.y == 0 && column < inner) {
        partial[((size_t)blockIdx.y * outer + o) * inner + column] = sum;
    }
}

// The pieces of every result, in order.
KERNEL(sum_pieces)(const double* partial, STORED* to, u32 n, u32 pieces) {
    __shared__ double lanes[LINES][COLUMNS];
    u32 column = blockIdx.x * COLUMNS + threadIdx.x;
    double sum = total(partial, pieces, n, column, lanes);
    if (threadIdx.y == 0 && column < n) to[column] = (REAL)sum;
}

// Whether the element `b` at `j` comes before `a` at `i`; nobody is at `n`.
FN bool precedes(REAL b, u32 j, REAL a, u32 i, u32 n) {
    if (j == n || b != b) return false;
    return i == n || b > a || (b == a && j < i);
}

// The first largest element, or smallest if `sign` is −1. A NaN counts only in front, as on the CPU.
FN u32 extreme(const STORED* x, u32 extent, u32 inner, REAL sign, u32 from, u32 step, REAL* value) {
    u32 best = extent;
    REAL top = 0;
    for (u32 e = from; e < extent; e += step) {
        REAL here = sign * x[(size_t)e * inner];
        if (precedes(here, e, top, best, extent)) {
            best = e;
            top = here;
        }
    }
    *value = top;
    return best;
}

FN u32 position(const STORED* x, u32 best, u32 extent, u32 inner, u32 i, u32 flat) {
    if (best == extent || x[0] != x[0]) best = 0;
    return flat ? (i / inner * extent + best) * inner + i % inner : best;
}

KERNEL(extreme_short)(const STORED* x, u32* to, u32 n, u32 extent, u32 inner, double sign, u32 flat) {
    FOR_EACH(i, n) {
        const STORED* at = x + (size_t)(i / inner) * extent * inner + i % inner;
        REAL value;
        u32 best = extreme(at, extent, inner, (REAL)sign, 0, 1, &value);
        to[i] = position(at, best, extent, inner, i, flat);
    }
}

// One block for each result.
KERNEL(extreme_long)(const STORED* x, u32* to, u32 extent, u32 inner, double sign, u32 flat) {
    __shared__ REAL tops[256];
    __shared__ u32 places[256];
    u32 i = blockIdx.x, t = threadIdx.x;
    const STORED* at = x + (size_t)(i / inner) * extent * inner + i % inner;
    REAL value;
    places[t] = extreme(at, extent, inner, (REAL)sign, t, blockDim.x, &value);
    tops[t] = value;
    __syncthreads();
    for (u32 step = blockDim.x / 2; step > 0; step /= 2) {
        if (t < step && precedes(tops[t + step], places[t + step], tops[t], places[t], extent)) {
            tops[t] = tops[t + step];
            places[t] = places[t + step];
        }
        __syncthreads();
    }
    if (t == 0) to[i] = position(at, places[0], extent, inner, i, flat);
}
