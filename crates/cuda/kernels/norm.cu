// Batch normalization of (rows, c). Statistics are sums of fixed pieces of rows.
//
// A block looks at W channels for each of its columns of threads, and its lines share the rows of the piece: W is a pack
// where packs divide the channels, else one. What is summed of up to RUN rows at a time enters a double as one number;
// that short sum is of floats only for bf16, whose eight bits it keeps sixteen more of.

#define RUN 4

template <u32 bytes>
struct Short {
    typedef double type;
};
template <>
struct Short<2> {
    typedef float type;
};
typedef Short<sizeof(STORED)>::type SHORT;

// Elements of neighboring channels as they are in memory; a pack is one load.
template <u32 W>
struct Few {
    STORED lane[W];
};

template <u32 W>
FN Few<W> few_at(const STORED* from, size_t at) {
    Few<W> few;
    if (W == 1) {
        few.lane[0] = from[at];
    } else {
        Pack pack = pack_at(from, at / W);
        memcpy(&few, &pack, sizeof few);
    }
    return few;
}

template <u32 W>
FN void put_few(STORED* to, size_t at, Few<W> few) {
    if (W == 1) {
        to[at] = few.lane[0];
    } else {
        Pack pack;
        memcpy(&pack, &few, sizeof few);
        put(to, at / W, pack);
    }
}

// The rows of a thread, RUN at a time, so that as many loads are under way: f(row, whether it is one, place in the run).
template <class Load, class Add, class End>
FN void each_run(u32 rows, u32 piece, Load load_row, Add add_row, End end_run) {
    u32 end = min((blockIdx.y + 1) * piece, rows);
    for (u32 first = blockIdx.y * piece + threadIdx.y; first < end; first += RUN * blockDim.y) {
#pragma unroll
        for (u32 k = 0; k < RUN; k++) {
            if (first + k * blockDim.y < end) load_row(first + k * blockDim.y, k);
        }
#pragma unroll
        for (u32 k = 0; k < RUN; k++) {
            if (first + k * blockDim.y < end) add_row(first + k * blockDim.y, k);
        }
        end_run();
    }
}

// The sums of the block's channels over its lines: piece blockIdx.y of (pieces, c).
template <u32 W>
FN void write_piece(const double* sum, double* lanes, double* partial, u32 c) {
    u32 columns = blockDim.x * W, threads = blockDim.x * blockDim.y, t = threadIdx.y * blockDim.x + threadIdx.x;
    for (u32 l = 0; l < W; l++) lanes[t * W + l] = sum[l];
    __syncthreads();
    for (u32 i = t; i < columns; i += threads) {
        double total = 0;
        for (u32 y = 0; y < blockDim.y; y++) total += lanes[y * columns + i];
        u32 channel = blockIdx.x * columns + i;
        if (channel < c) partial[(size_t)blockIdx.y * c + channel] = total;
    }
    __syncthreads();
}

// Of each channel, a piece of Σ (x − x₀) and Σ (x − x₀)²: `partial` is (2, pieces, c).
template <u32 W>
FN void moments_of(const STORED* x, double* partial, u32 rows, u32 c, u32 piece, double* lanes) {
    u32 i = (blockIdx.x * blockDim.x + threadIdx.x) * W;
    double sum[W] = {}, squares[W] = {};
    if (i < c) {
        Few<W> origin = few_at<W>(x, i), v[RUN];
        SHORT s[W] = {}, q[W] = {};
        each_run(
            rows, piece, [&](u32 r, u32 k) { v[k] = few_at<W>(x, (size_t)r * c + i); },
            [&](u32, u32 k) {
                for (u32 l = 0; l < W; l++) {
                    SHORT d = (SHORT)v[k].lane[l] - (SHORT)origin.lane[l];
                    s[l] += d;
                    q[l] += d * d;
                }
            },
            [&] {
                for (u32 l = 0; l < W; l++) sum[l] += s[l], squares[l] += q[l], s[l] = 0, q[l] = 0;
            });
    }
    write_piece<W>(sum, lanes, partial, c);
    write_piece<W>(squares, lanes, partial + (size_t)gridDim.y * c, c);
}

KERNEL(moments)(const STORED* x, double* partial, u32 rows, u32 c, u32 piece) {
    __shared__ double lanes[256];
    moments_of<1>(x, partial, rows, c, piece, lanes);
}

KERNEL(moments_by_pack)(const STORED* x, double* partial, u32 rows, u32 c, u32 piece) {
    __shared__ double lanes[256 * (16 / sizeof(STORED))];
    moments_of<16 / sizeof(STORED)>(x, partial, rows, c, piece, lanes);
}

FN REAL inverse_deviation(REAL variance, double eps) { return (REAL)(1.0 / sqrt((double)variance + eps)); }

// A block of 4 × 64 threads ends the sums of 4 channels.
#define ENDS 4
#define SHARES 64

// The sums of (2, pieces, c) over the pieces; the threads of line 0 get them.
FN void totals(const double* partial, u32 pieces, u32 c, u32 i, double (*lanes)[2][ENDS], double* sum, double* dot) {
    double a = 0, b = 0;
    if (i < c) {
#pragma unroll 4
        for (u32 p = threadIdx.y; p < pieces; p += SHARES) {
            a += partial[(size_t)p * c + i];
            b += partial[((size_t)pieces + p) * c + i];
        }
    }
    lanes[threadIdx.y][0][threadIdx.x] = a;
    lanes[threadIdx.y][1][threadIdx.x] = b;
    __syncthreads();
    for (u32 step = SHARES / 2; step > 0; step /= 2) {
        if (threadIdx.y < step) {
            for (u32 k = 0; k < 2; k++) {
                lanes[threadIdx.y][k][threadIdx.x] += lanes[threadIdx.y + step][k][threadIdx.x];
            }
        }
        __syncthreads();
    }
    *sum = lanes[0][0][threadIdx.x];
    *dot = lanes[0][1][threadIdx.x];
}

// Mean, biased variance, and the affine map that normalizes with them.
KERNEL(moments_finish)
(const double* partial, const STORED* x, const REAL* weight, const REAL* bias, REAL* mean, REAL* variance, REAL* scale,
 REAL* shift, u32 rows, u32 c, u32 pieces, double eps) {
    __shared__ double lanes[SHARES][2][ENDS];
    u32 i = blockIdx.x * ENDS + threadIdx.x;
    double sum, squares;
    totals(partial, pieces, c, i, lanes, &sum, &squares);
    if (threadIdx.y != 0 || i >= c) return;
    double spread = (squares - sum * sum / rows) / rows;
    REAL m = (REAL)((double)x[i] + sum / rows), v = (REAL)(spread < 0 ? 0 : spread);
    REAL s = weight[i] * inverse_deviation(v, eps);
    mean[i] = m;
    variance[i] = v;
    scale[i] = s;
    shift[i] = bias[i] - m * s;
}

// Of each channel, a piece of Σ dy and Σ dy·(x − mean), dy being zero where the ReLU behind the normalization was:
// `partial` is (2, pieces, c). The affine map is that of the forward pass, with the same bits.
template <u32 W>
FN void adjoint_sums_of(const STORED* x, const STORED* dy, const REAL* weight, const REAL* bias, const REAL* mean,
                        const REAL* variance, double* partial, u32 rows, u32 c, u32 piece, u32 relu, double eps,
                        double* lanes) {
    __shared__ REAL scales[256], shifts[256];
    u32 columns = blockDim.x * W, threads = blockDim.x * blockDim.y;
    for (u32 t = threadIdx.y * blockDim.x + threadIdx.x; t < columns; t += threads) {
        u32 channel = blockIdx.x * columns + t;
        if (channel < c) {
            REAL s = weight[channel] * inverse_deviation(variance[channel], eps);
            scales[t] = s;
            shifts[t] = bias[channel] - mean[channel] * s;
        }
    }
    __syncthreads();
    u32 own = threadIdx.x * W, i = blockIdx.x * columns + own;
    double sum[W] = {}, dot[W] = {};
    if (i < c) {
        Few<W> v[RUN], d[RUN];
        REAL m[W], scale[W], shift[W];
        SHORT s[W] = {}, q[W] = {};
        for (u32 l = 0; l < W; l++) m[l] = mean[i + l], scale[l] = scales[own + l], shift[l] = shifts[own + l];
        each_run(
            rows, piece,
            [&](u32 r, u32 k) {
                v[k] = few_at<W>(x, (size_t)r * c + i);
                d[k] = few_at<W>(dy, (size_t)r * c + i);
            },
            [&](u32, u32 k) {
                for (u32 l = 0; l < W; l++) {
                    REAL here = v[k].lane[l];
                    bool passes = !relu || here * scale[l] + shift[l] > 0;
                    SHORT slope = passes ? (REAL)d[k].lane[l] : (REAL)0;
                    s[l] += slope;
                    q[l] += slope * (SHORT)(here - m[l]);
                }
            },
            [&] {
                for (u32 l = 0; l < W; l++) sum[l] += s[l], dot[l] += q[l], s[l] = 0, q[l] = 0;
            });
    }
    write_piece<W>(sum, lanes, partial, c);
    write_piece<W>(dot, lanes, partial + (size_t)gridDim.y * c, c);
}

KERNEL(norm_adjoint_sums)
(const STORED* x, const STORED* dy, const REAL* weight, const REAL* bias, const REAL* mean, const REAL* variance,
 double* partial, u32 rows, u32 c, u32 piece, u32 relu, double eps) {
    __shared__ double lanes[256];
    adjoint_sums_of<1>(x, dy, weight, bias, mean, variance, partial, rows, c, piece, relu, eps, lanes);
}

KERNEL(norm_adjoint_sums_by_pack)
(const STORED* x, const STORED* dy, const REAL* weight, const REAL* bias, const REAL* mean, const REAL* variance,
 double* partial, u32 rows, u32 c, u32 piece, u32 relu, double eps) {
    __shared__ double lanes[256 * (16 / sizeof(STORED))];
    adjoint_sums_of<16 / sizeof(STORED)>(x, dy, weight, bias, mean, variance, partial, rows, c, piece, relu, eps, lanes);
}

// The adjoints in weight and bias, what the adjoint in the input subtracts, and the affine map for it.
KERNEL(norm_adjoint_finish)
(const double* partial, const REAL* weight, const REAL* bias, const REAL* mean, const REAL* variance, REAL* d_weight,
 REAL* d_bias, REAL* mean_dy, REAL* along, REAL* scale, REAL* shift, u32 rows, u32 c, u32 pieces, double eps) {
    __shared__ double lanes[SHARES][2][ENDS];
    u32 i = blockIdx.x * ENDS + threadIdx.x;
    double sum, dot;
    totals(partial, pieces, c, i, lanes, &sum, &dot);
    if (threadIdx.y != 0 || i >= c) return;
    REAL deviation = inverse_deviation(variance[i], eps);
    double inverse = deviation;
    dot *= inverse;
    d_bias[i] = (REAL)sum;
    d_weight[i] = (REAL)dot;
    mean_dy[i] = (REAL)(sum / rows);
    along[i] = (REAL)(dot / rows * inverse);
    REAL s = weight[i] * deviation;
    scale[i] = s;
    shift[i] = bias[i] - mean[i] * s;
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

// The gradient dz = dy + more where y > 0, rounded as a sum that is stored, and of each channel a piece of Σ dz and
// Σ dz·(x − mean): `partial` is (2, pieces, c). `more` may be nothing.
template <u32 W>
FN void add_relu_sums_of(const STORED* x, const STORED* y, const STORED* dy, const STORED* more, const REAL* mean,
                         STORED* dz, double* partial, u32 rows, u32 c, u32 piece, double* lanes) {
    u32 i = (blockIdx.x * blockDim.x + threadIdx.x) * W;
    double sum[W] = {}, dot[W] = {};
    if (i < c) {
        Few<W> v[RUN], d[RUN], e[RUN], gate[RUN];
        REAL m[W];
        SHORT s[W] = {}, q[W] = {};
        for (u32 l = 0; l < W; l++) m[l] = mean[i + l];
        each_run(
            rows, piece,
            [&](u32 r, u32 k) {
                size_t at = (size_t)r * c + i;
                v[k] = few_at<W>(x, at);
                gate[k] = few_at<W>(y, at);
                d[k] = few_at<W>(dy, at);
                if (more) e[k] = few_at<W>(more, at);
            },
            [&](u32 r, u32 k) {
                for (u32 l = 0; l < W; l++) {
                    REAL whole = d[k].lane[l];
                    if (more) whole += (REAL)e[k].lane[l];
                    d[k].lane[l] = gate[k].lane[l] > 0 ? whole : (REAL)0;
                    REAL slope = d[k].lane[l];
                    s[l] += slope;
                    q[l] += (SHORT)slope * (SHORT)((REAL)v[k].lane[l] - m[l]);
                }
                put_few<W>(dz, (size_t)r * c + i, d[k]);
            },
            [&] {
                for (u32 l = 0; l < W; l++) sum[l] += s[l], dot[l] += q[l], s[l] = 0, q[l] = 0;
            });
    }
    write_piece<W>(sum, lanes, partial, c);
    write_piece<W>(dot, lanes, partial + (size_t)gridDim.y * c, c);
}

KERNEL(norm_add_relu_sums)
(const STORED* x, const STORED* y, const STORED* dy, const STORED* more, const REAL* mean, STORED* dz, double* partial,
 u32 rows, u32 c, u32 piece) {
    __shared__ double lanes[256];
    add_relu_sums_of<1>(x, y, dy, more, mean, dz, partial, rows, c, piece, lanes);
}

KERNEL(norm_add_relu_sums_by_pack)
(const STORED* x, const STORED* y, const STORED* dy, const STORED* more, const REAL* mean, STORED* dz, double* partial,
 u32 rows, u32 c, u32 piece) {
    __shared__ double lanes[256 * (16 / sizeof(STORED))];
    add_relu_sums_of<16 / sizeof(STORED)>(x, y, dy, more, mean, dz, partial, rows, c, piece, lanes);
}
