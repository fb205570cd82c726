// Reductions over the threads of a block, in a fixed order.

// The sum over a line of a power of two of threads; every thread gets it.
FN double line_sum(double value, double* lanes) {
    u32 t = threadIdx.x;
    lanes[t] = value;
    __syncthreads();
    for (u32 step = blockDim.x / 2; step > 0; step /= 2) {
        if (t < step) lanes[t] += lanes[t + step];
        __syncthreads();
    }
    double sum = lanes[0];
    __syncthreads();
    return sum;
}

// A block of 32 × 8 threads looks at 32 columns; its eight lines share the rows.
#define COLUMNS 32
#define LINES 8

// The sums of the columns over the lines; the threads of line 0 get them.
FN double column_sum(double value, double (*lanes)[COLUMNS]) {
    u32 x = threadIdx.x, y = threadIdx.y;
    lanes[y][x] = value;
    __syncthreads();
    for (u32 step = LINES / 2; step > 0; step /= 2) {
        if (y < step) lanes[y][x] += lanes[y + step][x];
        __syncthreads();
    }
    double sum = lanes[0][x];
    __syncthreads();
    return sum;
}

// The sum of one column of (pieces, width), by the whole block.
FN double total(const double* partial, u32 pieces, u32 width, u32 column, double (*lanes)[COLUMNS]) {
    double sum = 0;
    if (column < width) {
        for (u32 p = threadIdx.y; p < pieces; p += LINES) sum += partial[(size_t)p * width + column];
    }
    return column_sum(sum, lanes);
}
