// Softmax, its logarithm and cross-entropy of rows of k elements: one block for each row.

// The largest element of a row; a NaN anywhere gives a NaN, so that the result does not hide it.
FN REAL larger(REAL a, REAL b) { return b > a || b != b ? b : a; }

FN REAL largest(const STORED* x, u32 k, REAL* lanes) {
    u32 t = threadIdx.x;
    REAL top = x[t < k ? t : 0];
    for (u32 j = t; j < k; j += blockDim.x) top = larger(top, x[j]);
    lanes[t] = top;
    __syncthreads();
    for (u32 step = blockDim.x / 2; step > 0; step /= 2) {
        if (t < step) lanes[t] = larger(lanes[t], lanes[t + step]);
        __syncthreads();
    }
    top = lanes[0];
    __syncthreads();
    return top;
}

KERNEL(softmax)(const STORED* x, STORED* y, u32 k, u32 log) {
    __shared__ double sums[256];
    __shared__ REAL tops[256];
    x += (size_t)blockIdx.x * k;
    y += (size_t)blockIdx.x * k;
    REAL top = largest(x, k, tops);
    double sum = 0;
    for (u32 j = threadIdx.x; j < k; j += blockDim.x) sum += exp_of(x[j] - top);
    REAL all = (REAL)line_sum(sum, sums);
    REAL factor = 1 / all, shift = top + log_of(all);
    for (u32 j = threadIdx.x; j < k; j += blockDim.x) y[j] = log ? x[j] - shift : exp_of(x[j] - top) * factor;
}

KERNEL(softmax_adjoint)(const STORED* y, const STORED* dy, STORED* dx, u32 k, u32 log) {
    __shared__ double sums[256];
    size_t row = (size_t)blockIdx.x * k;
    double sum = 0;
    for (u32 j = threadIdx.x; j < k; j += blockDim.x) sum += log ? dy[row + j] : y[row + j] * dy[row + j];
    REAL dot = (REAL)line_sum(sum, sums);
    for (u32 j = threadIdx.x; j < k; j += blockDim.x) {
        REAL p = y[row + j], d = dy[row + j];
        dx[row + j] = log ? d - exp_of(p) * dot : p * (d - dot);
    }
}

// ln(1 + Σ_{j≠y} e^{z_j − z_y}), with the largest gap taken out when it is positive.
KERNEL(cross_entropy)(const STORED* z, const u32* labels, STORED* losses, u32 k, u32* fault) {
    __shared__ double sums[256];
    __shared__ REAL tops[256];
    z += (size_t)blockIdx.x * k;
    u32 label = labels[blockIdx.x];
    if (label >= k) {
        if (threadIdx.x == 0) {
            losses[blockIdx.x] = 0;
            *fault = 2;
        }
        return;
    }
    REAL top = largest(z, k, tops);
    REAL gap = top - z[label];
    REAL shift = gap > 0 ? top : z[label];
    double sum = 0;
    for (u32 j = threadIdx.x; j < k; j += blockDim.x) {
        if (j != label) sum += exp_of(z[j] - shift);
    }
    REAL others = (REAL)line_sum(sum, sums);
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = gap > 0 ? gap + log_of(exp_of(-gap) + others) : log1p_of(others);
    }
}

// The label's entry is minus the sum of the others, not p − 1: this does not cancel when p is close to 1.
KERNEL(cross_entropy_adjoint)(const STORED* z, const u32* labels, const STORED* dy, STORED* dz, u32 k, u32* fault) {
    __shared__ double sums[256];
    __shared__ REAL tops[256];
    z += (size_t)blockIdx.x * k;
    dz += (size_t)blockIdx.x * k;
    u32 label = labels[blockIdx.x];
    if (label >= k) {
        for (u32 j = threadIdx.x; j < k; j += blockDim.x) dz[j] = 0;
        if (threadIdx.x == 0) *fault = 2;
        return;
    }
    REAL top = largest(z, k, tops);
    double sum = 0;
    for (u32 j = threadIdx.x; j < k; j += blockDim.x) sum += exp_of(z[j] - top);
    REAL factor = dy[blockIdx.x] / (REAL)line_sum(sum, sums);
    sum = 0;
    for (u32 j = threadIdx.x; j < k; j += blockDim.x) {
        if (j != label) {
            REAL d = exp_of(z[j] - top) * factor;
            dz[j] = d;
            sum += d;
        }
    }
    sum = line_sum(sum, sums);
    if (threadIdx.x == 0) dz[label] = (REAL)-sum;
}
