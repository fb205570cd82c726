// Steps of an optimizer for many parameters in one launch. The roundings are those of the ops one after the other.

// One parameter: where its arrays are before and after, and how much it decays.
struct Slot {
    u64 value, gradient, first, second, to, to_first, to_second;
    double decay;
    // Where the pieces of its chunks lie, for lengths; whether its step has a length of its own.
    u64 first_piece, pieces, adapts;
};

// Part of a parameter: block `b` works on chunk `b`.
struct Chunk {
    u32 slot, start, end;
};

#define EACH_OF_CHUNK                                 \
    Chunk chunk = chunks[blockIdx.x];                 \
    Slot slot = slots[chunk.slot];                    \
    const REAL* value = (const REAL*)slot.value;      \
    const REAL* gradient = (const REAL*)slot.gradient; \
    const REAL* first = (const REAL*)slot.first;      \
    REAL* to = (REAL*)slot.to;                        \
    REAL* to_first = (REAL*)slot.to_first;            \
    (void)first, (void)to, (void)to_first;            \
    REAL decay = (REAL)slot.decay;                    \
    for (u32 i = chunk.start + threadIdx.x; i < chunk.end; i += blockDim.x)

KERNEL(update_sgd)(const Slot* slots, const Chunk* chunks, double lr, double momentum, u32 nesterov) {
    EACH_OF_CHUNK {
        REAL p = value[i], d = gradient[i];
        if (decay != 0) d = d + p * decay;
        REAL m = first[i] * (REAL)momentum + d;
        to_first[i] = m;
        REAL ahead = nesterov ? d + m * (REAL)momentum : m;
        to[i] = p - ahead * (REAL)lr;
    }
}

KERNEL(update_adam)(const Slot* slots, const Chunk* chunks, double b1, double b2, double eps, double lr, double rate,
                    double scale) {
    EACH_OF_CHUNK {
        const REAL* second = (const REAL*)slot.second;
        REAL* to_second = (REAL*)slot.to_second;
        REAL p = value[i], g = gradient[i];
        REAL m = first[i] * (REAL)b1 + g * (REAL)(1.0 - b1);
        REAL v = second[i] * (REAL)b2 + g * g * (REAL)(1.0 - b2);
        to_first[i] = m;
        to_second[i] = v;
        REAL direction = m / (sqrt_of(v * (REAL)scale) + (REAL)eps);
        to[i] = p * (REAL)(1.0 - lr * slot.decay) - direction * (REAL)rate;
    }
}

// The sums of squares of a chunk, of the parameter and of what its length is compared with.
struct Squares {
    double value, other;
};

KERNEL(update_squares)(const Slot* slots, const Chunk* chunks, u32 official, Squares* pieces) {
    __shared__ double lanes[256];
    double p2 = 0, d2 = 0;
    EACH_OF_CHUNK {
        REAL p = value[i], d = gradient[i];
        if (official && decay != 0) d = d + p * decay;
        p2 += p * p;
        d2 += d * d;
    }
    p2 = line_sum(p2, lanes);
    d2 = line_sum(d2, lanes);
    if (threadIdx.x == 0) pieces[blockIdx.x] = {p2, d2};
}

// The length whose square has these pieces; every thread of the block gets it. The sum is rounded as that of an op is.
FN double length_of(const Squares* pieces, u32 n, u32 other, double* lanes) {
    double sum = 0;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) sum += other ? pieces[i].other : pieces[i].value;
    return sqrt((double)(REAL)line_sum(sum, lanes));
}

KERNEL(update_lars)(const Slot* slots, const Chunk* chunks, const Squares* pieces, double lr, double momentum, double trust,
                    u32 official, u32 clipped) {
    __shared__ double lanes[256];
    const Slot own = slots[chunks[blockIdx.x].slot];
    const Squares* of = pieces + own.first_piece;
    double p_length = length_of(of, (u32)own.pieces, 0, lanes);
    double d_length = length_of(of, (u32)own.pieces, 1, lanes);
    double ratio = 1;
    if (p_length != 0 && d_length != 0) {
        ratio = trust * p_length / (official ? d_length : d_length + own.decay * p_length + 1e-8);
    }
    // As the smaller of two numbers, of which a NaN is none.
    if (clipped) ratio = ratio / lr < 1 ? ratio / lr : 1;
    EACH_OF_CHUNK {
        REAL p = value[i], d = gradient[i];
        if (decay != 0) d = d + p * decay;
        REAL m = first[i] * (REAL)momentum + (own.adapts ? d * (REAL)ratio : d);
        to_first[i] = m;
        to[i] = p - m * (REAL)lr;
    }
}
