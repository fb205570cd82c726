//! Elementary functions of f64 with the same bits on every processor.
//!
//! Those of the standard library are the system's, which may choose other code, and so round otherwise, where a processor
//! has fused multiply-adds. These are the portable ones of the `libm` crate, within one unit in the last place; square
//! roots need none, since every processor rounds them correctly. `clippy.toml` refuses the standard library's in the crates
//! whose bits are promised.

/// `eˣ`
pub fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// `2ˣ`
pub fn exp2(x: f64) -> f64 {
    libm::exp2(x)
}

/// `eˣ − 1`, exact to the last place near zero.
pub fn exp_m1(x: f64) -> f64 {
    libm::expm1(x)
}

/// The natural logarithm.
pub fn ln(x: f64) -> f64 {
    libm::log(x)
}

/// `ln(1 + x)`, exact to the last place near zero.
pub fn ln_1p(x: f64) -> f64 {
    libm::log1p(x)
}

/// The logarithm to base 2.
pub fn log2(x: f64) -> f64 {
    libm::log2(x)
}

/// `xᵖ`
pub fn powf(x: f64, p: f64) -> f64 {
    libm::pow(x, p)
}

/// The sine of an angle in radians.
pub fn sin(x: f64) -> f64 {
    libm::sin(x)
}

/// The cosine of an angle in radians.
pub fn cos(x: f64) -> f64 {
    libm::cos(x)
}

/// Sine and cosine of an angle in radians.
pub fn sin_cos(x: f64) -> (f64, f64) {
    libm::sincos(x)
}

/// The angle in `[−π/2, π/2]` with this sine.
pub fn asin(x: f64) -> f64 {
    libm::asin(x)
}

/// The angle in `[0, π]` with this cosine.
pub fn acos(x: f64) -> f64 {
    libm::acos(x)
}

/// The angle in `[−π, π]` of the point `(x, y)`.
pub fn atan2(y: f64, x: f64) -> f64 {
    libm::atan2(y, x)
}

/// `√(x² + y²)` without overflow of the squares.
pub fn hypot(x: f64, y: f64) -> f64 {
    libm::hypot(x, y)
}
