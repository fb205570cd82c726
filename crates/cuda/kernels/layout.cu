// Kernels that move elements without looking at them.

struct Axes {
    u32 extent[6], stride[6];
};

KERNEL(fill)(WORD* to, u32 n, u64 value) {
    FOR_EACH(i, n) to[i] = (WORD)value;
}

// The elements of a strided view, row-major; axes that the view has not have extent 1.
KERNEL(strided)(const WORD* from, WORD* to, u32 n, u32 offset, Axes view) {
    FOR_EACH(i, n) {
        u32 rest = i, at = offset;
        for (int axis = 5; axis >= 0; axis--) {
            u32 extent = view.extent[axis];
            if (extent == 1) continue;
            at += rest % extent * view.stride[axis];
            rest /= extent;
        }
        to[i] = from[at];
    }
}

// A matrix (rows, columns) as (columns, rows), in squares of 32: both sides are touched along their lines.
KERNEL(transpose)(const WORD* from, WORD* to, u32 rows, u32 columns) {
    // One more column, so that a line down the square does not meet one bank of memory 32 times.
    __shared__ WORD square[32][33];
    u32 top = blockIdx.x * 32, left = blockIdx.y * 32, x = threadIdx.x;
    for (u32 y = threadIdx.y; y < 32; y += blockDim.y) {
        if (top + y < rows && left + x < columns) square[y][x] = from[(size_t)(top + y) * columns + left + x];
    }
    __syncthreads();
    for (u32 y = threadIdx.y; y < 32; y += blockDim.y) {
        if (left + y < columns && top + x < rows) to[(size_t)(left + y) * rows + top + x] = square[x][y];
    }
}

// Writes a contiguous part to its place in a larger array, whose strides `view` holds.
KERNEL(place)(const WORD* from, WORD* to, u32 n, u32 offset, Axes view) {
    FOR_EACH(i, n) {
        u32 rest = i, at = offset;
        for (int axis = 5; axis >= 0; axis--) {
            u32 extent = view.extent[axis];
            if (extent == 1) continue;
            at += rest % extent * view.stride[axis];
            rest /= extent;
        }
        to[at] = from[i];
    }
}

// Rows of the middle axis of (outer, extent, inner) by index. An index beyond the axis is told in `fault`.
KERNEL(gather)(const WORD* from, const u32* index, WORD* to, u32 n, u32 count, u32 extent, u32 inner, u32* fault) {
    FOR_EACH(i, n) {
        u32 j = i / inner % count;
        u32 e = index[j];
        if (e < extent) {
            to[i] = from[(i / inner / count * extent + e) * inner + i % inner];
        } else {
            to[i] = 0;
            *fault = 1;
        }
    }
}
