// Elementwise functions: one line each, in the order of the enums `Unary` and `Binary`.

#define UNARY(name, value)                                                               \
    KERNEL(unary_##name)(const REAL* from, REAL* to, u32 n, double first, double second) { \
        FOR_EACH(i, n) {                                                                 \
            REAL x = from[i];                                                            \
            to[i] = value;                                                               \
        }                                                                                \
    }

UNARY(neg, -x)
UNARY(exp, exp_of(x))
UNARY(log, log_of(x))
UNARY(sqrt, sqrt_of(x))
UNARY(relu, positive(x))
UNARY(gelu, x * (REAL)0.5 * ((REAL)1 + erf_of(x * (REAL)0.70710678118654752440)))
UNARY(silu, x * sigmoid_of(x))
UNARY(tanh, tanh_of(x))
UNARY(sigmoid, sigmoid_of(x))
UNARY(erf, erf_of(x))
UNARY(sign, x > 0 ? (REAL)1 : x < 0 ? (REAL)-1 : x * 0)
UNARY(abs, abs_of(x))
UNARY(powf, pow_of(x, first))
UNARY(add_scalar, x + (REAL)first)
UNARY(mul_scalar, x * (REAL)first)
UNARY(clamp, x < (REAL)first ? (REAL)first : x > (REAL)second ? (REAL)second : x)

// How an operand repeats: each element `each` times, and the whole every `cycle` elements of it.
struct Repeat {
    u32 each, cycle;
};

FN u32 place(u32 i, Repeat r, u32 n) { return r.each == 1 && r.cycle == n ? i : i / r.each % r.cycle; }

#define BINARY(name, value)                                                                            \
    KERNEL(binary_##name)(const REAL* left, const REAL* right, REAL* to, u32 n, Repeat ra, Repeat rb) { \
        FOR_EACH(i, n) {                                                                               \
            REAL a = left[place(i, ra, n)];                                                            \
            REAL b = right[place(i, rb, n)];                                                           \
            to[i] = value;                                                                             \
        }                                                                                              \
    }

BINARY(add, a + b)
BINARY(sub, a - b)
BINARY(mul, a * b)
BINARY(div, a / b)
BINARY(max, a >= b ? a : b)
BINARY(min, a <= b ? a : b)
BINARY(greater, (REAL)(a > b))
BINARY(greater_equal, (REAL)(a >= b))
BINARY(equal, (REAL)(a == b))
BINARY(mask, b > 0 ? a : (REAL)0)

KERNEL(add_relu)(const REAL* a, const REAL* b, REAL* to, u32 n) {
    FOR_EACH(i, n) to[i] = positive(a[i] + b[i]);
}

KERNEL(select)(const REAL* condition, const REAL* a, const REAL* b, REAL* to, u32 n) {
    FOR_EACH(i, n) to[i] = condition[i] != 0 ? a[i] : b[i];
}

// x·scale + shift with one scale and shift for each of `c` channels.
KERNEL(channel_affine)(const REAL* x, const REAL* scale, const REAL* shift, REAL* to, u32 n, u32 c, u32 relu) {
    FOR_EACH(i, n) {
        REAL y = x[i] * scale[i % c] + shift[i % c];
        to[i] = relu ? positive(y) : y;
    }
}
