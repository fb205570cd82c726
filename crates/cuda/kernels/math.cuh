// The functions of the CPU's `Real`, for float and double.

// e^x of float as the CPU computes it, bit for bit: x = n ln 2 + r, a Taylor series to r^7, 2^n in two factors.
FN float power_of_two(int n) { return __int_as_float((n + 127) << 23); }

FN float exp_of(float x) {
    const float round = 12582912.0f;
    float inside = x > 89.0f ? 89.0f : x;
    inside = inside < -104.0f ? -104.0f : inside;
    float shifted = inside * 1.44269504088896340736f + round;
    float n = shifted - round;
    float r = (inside - n * 0.6933594f) - n * -2.1219444e-4f;
    float tail = 1.0f / 5040.0f;
    tail = tail * r + 1.0f / 720.0f;
    tail = tail * r + 1.0f / 120.0f;
    tail = tail * r + 1.0f / 24.0f;
    tail = tail * r + 1.0f / 6.0f;
    tail = tail * r + 0.5f;
    float series = (tail * (r * r) + r) + 1.0f;
    int whole = (int)((u32)__float_as_int(shifted) - (u32)__float_as_int(round));
    int half = whole >> 1;
    // A NaN leaves no meaningful exponent behind.
    return x != x ? x : series * power_of_two(half) * power_of_two(whole - half);
}
FN double exp_of(double x) { return exp(x); }

FN float log_of(float x) { return logf(x); }
FN double log_of(double x) { return log(x); }
FN float log1p_of(float x) { return log1pf(x); }
FN double log1p_of(double x) { return log1p(x); }
FN float sqrt_of(float x) { return sqrtf(x); }
FN double sqrt_of(double x) { return sqrt(x); }
FN float tanh_of(float x) { return tanhf(x); }
FN double tanh_of(double x) { return tanh(x); }
FN float erf_of(float x) { return erff(x); }
FN double erf_of(double x) { return erf(x); }
FN float abs_of(float x) { return fabsf(x); }
FN double abs_of(double x) { return fabs(x); }
FN float power_of(float x, float p) { return powf(x, p); }
FN double power_of(double x, double p) { return pow(x, p); }

// x^p by squaring for whole p of at most 64, as the CPU does it.
template <class R>
FN R pow_of(R x, double p) {
    if (p != trunc(p) || fabs(p) > 64.0) return power_of(x, (R)p);
    int n = (int)p;
    R y = 1;
    for (u32 rest = n < 0 ? -n : n; rest != 0; rest >>= 1) {
        if (rest & 1) y *= x;
        x *= x;
    }
    return n < 0 ? 1 / y : y;
}

// Never overflows: e^-|x| is at most 1.
template <class R>
FN R sigmoid_of(R x) {
    R e = exp_of(-abs_of(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

// Not `max`: a NaN must stay one.
template <class R>
FN R positive(R x) { return x < 0 ? (R)0 : x; }
