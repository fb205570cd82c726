//! Elementwise functions, extremes and laws of random numbers: the parameters of their kernels.

/// A law of [`Backend::random`](crate::Backend::random).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Random {
    /// `[0, 1)` with 24 random bits.
    Uniform,
    /// Standard normal (Box–Muller, two numbers from two words).
    Normal,
}

/// An elementwise function. The derivative of each stands beside its use in `ops::pointwise`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// −x
    Neg,
    /// eˣ
    Exp,
    /// ln x
    Log,
    /// √x
    Sqrt,
    /// max(x, 0)
    Relu,
    /// x·Φ(x), with the exact Φ
    Gelu,
    /// x·σ(x)
    Silu,
    /// tanh x
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// The error function
    Erf,
    /// −1, 0 or 1
    Sign,
    /// |x|
    Abs,
    /// xᵖ
    Powf(f64),
    /// x + c
    AddScalar(f64),
    /// c·x
    MulScalar(f64),
    /// The nearest value of `[lo, hi]`
    Clamp(f64, f64),
}

/// An elementwise function of two operands. Comparisons give 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a·b
    Mul,
    /// a / b
    Div,
    /// max(a, b)
    Max,
    /// min(a, b)
    Min,
    /// a > b
    Greater,
    /// a ≥ b
    GreaterEqual,
    /// a = b
    Equal,
    /// a where b > 0, else 0: the adjoint of ReLU
    Mask,
}

/// Which end of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extreme {
    /// The largest
    Max,
    /// The smallest
    Min,
}
