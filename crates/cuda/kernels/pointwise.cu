// Elementwise functions: one line each, in the order of the enums `Unary` and `Binary`.

#define UNARY(name, value)                                                                     \
    KERNEL(unary_##name)(const STORED* from, STORED* to, u32 n, double first, double second) { \
        map(from, to, n, 1, [=](u32, REAL x) -> REAL { return value; });                       \
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

FN bool whole(Repeat r, u32 n) { return r.each == 1 && r.cycle == n; }
FN u32 place(u32 i, Repeat r, u32 n) { return whole(r, n) ? i : i / r.each % r.cycle; }

#define BINARY(name, value)                                                                   \
    KERNEL(binary_##name)                                                                     \
    (const STORED* left, const STORED* right, STORED* to, u32 n, Repeat ra, Repeat rb) {      \
        auto f = [](u32, REAL a, REAL b) -> REAL { return value; };                           \
        if (whole(ra, n) && whole(rb, n)) {                                                   \
            map(left, right, to, n, 1, f);                                                    \
        } else {                                                                              \
            FOR_EACH(i, n) to[i] = f(0, left[place(i, ra, n)], right[place(i, rb, n)]);       \
        }                                                                                     \
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

KERNEL(add_relu)(const STORED* a, const STORED* b, STORED* to, u32 n) {
    map(a, b, to, n, 1, [](u32, REAL a, REAL b) -> REAL { return positive(a + b); });
}

// a + b where gate is above zero, rounded as a sum that is stored.
KERNEL(add_mask)(const STORED* a, const STORED* b, const STORED* gate, STORED* to, u32 n) {
    FOR_EACH(p, n / LANES) {
        Pack x = pack_at(a, p), y = pack_at(b, p), g = pack_at(gate, p);
        for (u32 l = 0; l < LANES; l++) x.lane[l] = g.lane[l] > 0 ? (REAL)x.lane[l] + (REAL)y.lane[l] : (REAL)0;
        put(to, p, x);
    }
    FOR_EACH(j, n % LANES) {
        u32 i = n - 1 - j;
        to[i] = gate[i] > 0 ? (REAL)a[i] + (REAL)b[i] : (REAL)0;
    }
}

KERNEL(select)(const STORED* condition, const STORED* a, const STORED* b, STORED* to, u32 n) {
    FOR_EACH(i, n) to[i] = condition[i] != 0 ? a[i] : b[i];
}

// x·scale + shift with one scale and shift for each of `c` channels.
KERNEL(channel_affine)(const STORED* x, const REAL* scale, const REAL* shift, STORED* to, u32 n, u32 c, u32 relu) {
    map(x, to, n, c, [=](u32 i, REAL x) -> REAL {
        REAL y = x * scale[i] + shift[i];
        return relu ? positive(y) : y;
    });
}
