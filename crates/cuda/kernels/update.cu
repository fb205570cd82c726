// Steps of an optimiser for many parameters in one launch. The roundings are those of the ops one after the other.

// One parameter: where its arrays are before and after, and how much it decays.
struct Slot {
    u64 value, gradient, first, second, to, to_first, to_second;
    double decay;
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
