// Batch normalisation of (rows, c). Statistics are sums of fixed pieces of rows, in double, about the first row.

FN u32 channel() { return blockIdx.x * COLUMNS + threadIdx.x; }

// Piece p of Σ (x − x₀) and Σ (x − x₀)²: `partial` is (2, pieces, c).
KERNEL(moments)(const STORED* x, double* partial, u32 rows, u32 c, u32 piece) {
    __shared__ double lanes[LINES][COLUMNS];
    u32 i = channel();
    double sum = 0, squares = 0;
    if (i < c) {
        double origin = x[i];
        u32 end = min((blockIdx.y + 1) * piece, rows);
        for (u32 r = blockIdx.y * piece + threadIdx.y; r < end; r += LINES) {
            double d = (double)x[(size_t)r * c + i] - origin;
            sum += d;
            squares += d * d;
        }
    }
    sum = column_sum(sum, lanes);
    squares = column_sum(squares, lanes);
    if (threadIdx.y == 0 && i < c) {
        partial[(size_t)blockIdx.y * c + i] = sum;
        partial[((size_t)gridDim.y + blockIdx.y) * c + i] = squares;
    }
}

FN REAL inverse_deviation(REAL variance, double eps) { return (REAL)(1.0 / sqrt((double)variance + eps)); }

// Mean, biased variance, and the affine map that normalises with them.
KERNEL(moments_finish)
(const double* partial, const STORED* x, const REAL* weight, const REAL* bias, REAL* mean, REAL* variance, REAL* scale,
 REAL* shift, u32 rows, u32 c, u32 pieces, double eps) {
    __shared__ double lanes[LINES][COLUMNS];
    u32 i = channel();
    double sum = total(partial, pieces, c, i, lanes);
    double squares = total(partial + (size_t)pieces * c, pieces, c, i, lanes);
    if (threadIdx.y != 0 || i >= c) return;
    double spread = (squares - sum * sum / rows) / rows;
    REAL m = (REAL)((double)x[i] + sum / rows), v = (REAL)(spread < 0 ? 0 : spread);
    REAL s = weight[i] * inverse_deviation(v, eps);
    mean[i] = m;
    variance[i] = v;
    scale[i] = s;
    shift[i] = bias[i] - m * s;
}

// The affine map of the forward pass again, with the same bits, so that a ReLU passes the same gradients.
KERNEL(norm_map)
(const REAL* weight, const REAL* bias, const REAL* mean, const REAL* variance, REAL* scale, REAL* shift, u32 c,
 double eps) {
    FOR_EACH(i, c) {
        REAL s = weight[i] * inverse_deviation(variance[i], eps);
        scale[i] = s;
        shift[i] = bias[i] - mean[i] * s;
    }
}

// Piece p of Σ dy and Σ dy·(x − mean): `partial` is (2, pieces, c).
KERNEL(norm_adjoint_sums)
(const STORED* x, const STORED* dy, const REAL* mean, const REAL* scale, const REAL* shift, double* partial, u32 rows,
 u32 c, u32 piece, u32 relu) {
    __shared__ double lanes[LINES][COLUMNS];
    u32 i = channel();
    double sum = 0, dot = 0;
    if (i < c) {
        REAL s = scale[i], t = shift[i], m = mean[i];
        u32 end = min((blockIdx.y + 1) * piece, rows);
        for (u32 r = blockIdx.y * piece + threadIdx.y; r < end; r += LINES) {
            size_t at = (size_t)r * c + i;
            REAL here = x[at];
            if (relu && !(here * s + t > 0)) continue;
            double d = dy[at];
            sum += d;
            dot += d * (double)(here - m);
        }
    }
    sum = column_sum(sum, lanes);
    dot = column_sum(dot, lanes);
    if (threadIdx.y == 0 && i < c) {
        partial[(size_t)blockIdx.y * c + i] = sum;
        partial[((size_t)gridDim.y + blockIdx.y) * c + i] = dot;
    }
}

// The adjoints in weight and bias, and what the adjoint in the input subtracts.
KERNEL(norm_adjoint_finish)
(const double* partial, const REAL* variance, REAL* d_weight, REAL* d_bias, REAL* mean_dy, REAL* along, u32 rows, u32 c,
 u32 pieces, double eps) {
    __shared__ double lanes[LINES][COLUMNS];
    u32 i = channel();
    double sum = total(partial, pieces, c, i, lanes);
    double dot = total(partial + (size_t)pieces * c, pieces, c, i, lanes);
    if (threadIdx.y != 0 || i >= c) return;
    double inverse = inverse_deviation(variance[i], eps);
    dot *= inverse;
    d_bias[i] = (REAL)sum;
    d_weight[i] = (REAL)dot;
    mean_dy[i] = (REAL)(sum / rows);
    along[i] = (REAL)(dot / rows * inverse);
}

// scale · (dy − mean of dy − (x − mean) · along)
KERNEL(norm_adjoint_input)
(const STORED* x, const STORED* dy, const REAL* mean, const REAL* scale, const REAL* shift, const REAL* mean_dy,
 const REAL* along, STORED* dx, u32 n, u32 c, u32 relu) {
    map(x, dy, dx, n, c, [=](u32 i, REAL x, REAL d) -> REAL {
        if (relu && !(x * scale[i] + shift[i] > 0)) d = 0;
        return scale[i] * (d - mean_dy[i] - (x - mean[i]) * along[i]);
    });
}

// max(x·scale + shift + skip, 0)
KERNEL(norm_add_relu)
(const STORED* x, const STORED* skip, const REAL* scale, const REAL* shift, STORED* y, u32 n, u32 c) {
    map(x, skip, y, n, c, [=](u32 i, REAL x, REAL skip) -> REAL {
        return positive((x * scale[i] + shift[i]) + skip);
    });
}

// Piece p of Σ dz and Σ dz·(x − mean) with dz = dy where y > 0: `partial` is (2, pieces, c).
KERNEL(norm_add_relu_sums)
(const STORED* x, const STORED* y, const STORED* dy, const REAL* mean, STORED* dz, double* partial, u32 rows, u32 c,
 u32 piece) {
    __shared__ double lanes[LINES][COLUMNS];
    u32 i = channel();
    double sum = 0, dot = 0;
    if (i < c) {
        REAL m = mean[i];
        u32 end = min((blockIdx.y + 1) * piece, rows);
        for (u32 r = blockIdx.y * piece + threadIdx.y; r < end; r += LINES) {
            size_t at = (size_t)r * c + i;
            REAL d = y[at] > 0 ? (REAL)dy[at] : 0;
            dz[at] = d;
            sum += d;
            dot += (double)d * (double)((REAL)x[at] - m);
        }
    }
    sum = column_sum(sum, lanes);
    dot = column_sum(dot, lanes);
    if (threadIdx.y == 0 && i < c) {
        partial[(size_t)blockIdx.y * c + i] = sum;
        partial[((size_t)gridDim.y + blockIdx.y) * c + i] = dot;
    }
}
