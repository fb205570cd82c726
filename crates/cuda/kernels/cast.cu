// Conversions between element types; those to indices saturate and send NaN to 0.

FN u32 index_of(double x) { return x >= 4294967295.0 ? 4294967295u : x > 0 ? (u32)x : 0; }

#define CAST(name, From, To, value)                        \
    KERNEL(name)(const From* from, To* to, u32 n) { \
        FOR_EACH(i, n) {                                   \
            From x = from[i];                              \
            to[i] = value;                                 \
        }                                                  \
    }

CAST(f32_to_f64, float, double, (double)x)
CAST(f32_to_u32, float, u32, index_of((double)x))
CAST(f64_to_f32, double, float, (float)x)
CAST(f64_to_u32, double, u32, index_of(x))
CAST(u32_to_f32, u32, float, (float)x)
CAST(u32_to_f64, u32, double, (double)x)
