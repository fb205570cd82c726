// Conversions between element types; those to indices saturate and send NaN to 0.

FN u32 index_of(double x) { return x >= 4294967295.0 ? 4294967295u : x > 0 ? (u32)x : 0; }

#define CAST(name, From, To, value)                 \
    KERNEL(name)(const From* from, To* to, u32 n) { \
        FOR_EACH(i, n) {                            \
            From x = from[i];                       \
            to[i] = value;                          \
        }                                           \
    }

CAST(f32_to_f64, float, double, (double)x)
CAST(f32_to_u32, float, u32, index_of((double)x))
CAST(f64_to_f32, double, float, (float)x)
CAST(f64_to_u32, double, u32, index_of(x))
CAST(u32_to_f32, u32, float, (float)x)
CAST(u32_to_f64, u32, double, (double)x)
CAST(f64_to_bf16, double, bf16, (float)x)
CAST(u32_to_bf16, u32, bf16, (float)x)
CAST(bf16_to_f64, bf16, double, (float)x)
CAST(bf16_to_u32, bf16, u32, index_of((double)x))

// The two that mixed precision makes all the time, eight elements at a time.
struct __align__(16) Eight {
    bf16 lane[8];
};

KERNEL(f32_to_bf16)(const float* from, bf16* to, u32 n) {
    FOR_EACH(p, n / 8) {
        Eight eight;
        for (u32 half = 0; half < 2; half++) {
            float4 four = reinterpret_cast<const float4*>(from)[2 * p + half];
            eight.lane[4 * half] = four.x;
            eight.lane[4 * half + 1] = four.y;
            eight.lane[4 * half + 2] = four.z;
            eight.lane[4 * half + 3] = four.w;
        }
        uint4 bits;
        memcpy(&bits, &eight, 16);
        reinterpret_cast<uint4*>(to)[p] = bits;
    }
    FOR_EACH(j, n % 8) to[n - 1 - j] = from[n - 1 - j];
}

KERNEL(bf16_to_f32)(const bf16* from, float* to, u32 n) {
    FOR_EACH(p, n / 8) {
        uint4 bits = reinterpret_cast<const uint4*>(from)[p];
        Eight eight;
        memcpy(&eight, &bits, 16);
        for (u32 half = 0; half < 2; half++) {
            bf16* lane = eight.lane + 4 * half;
            float4 four = {lane[0], lane[1], lane[2], lane[3]};
            reinterpret_cast<float4*>(to)[2 * p + half] = four;
        }
    }
    FOR_EACH(j, n % 8) to[n - 1 - j] = from[n - 1 - j];
}
