//! Vector helpers: dot product, l2 norm, positively homogeneous functions, and maxima and minima that propagate a NaN.

use crate::rounding::up;
use tarrl_bound::LpNorm;

pub(crate) fn l2_norm(v: &[f64]) -> f64 {
    LpNorm::L2.of(v)
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The larger of two, and NaN if one is: `f64::max` would drop a NaN and turn an undefined value into a bound.
pub(crate) fn max_or_nan(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The smaller of two, and NaN if one is.
pub(crate) fn min_or_nan(a: f64, b: f64) -> f64 {
    if b.is_nan() || b < a { b } else { a }
}

/// `f(v)` of a function with `f(c v) = c f(v)` for positive `c`, rounded up: where squares of `v` would underflow, from `v`
/// times a power of two.
pub(crate) fn at_scale(v: &[f64], f: impl Fn(&[f64]) -> f64) -> f64 {
    const SHRINK: f64 = f64::from_bits((1023 - 200) << 52); // 2⁻²⁰⁰
    let is_tiny = |v: &[f64]| v.iter().all(|v| v.abs() < 1e-100);
    if !is_tiny(v) || v.iter().all(|&v| v == 0.0) {
        return f(v);
    }
    let (mut larger, mut scale) = (v.to_vec(), 1.0);
    while is_tiny(&larger) {
        larger.iter_mut().for_each(|v| *v /= SHRINK);
        scale *= SHRINK;
    }
    up(f(&larger) * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_keeps_its_digits_at_every_scale() {
        let naive = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        for scale in [5e-324, 1e-320, 1e-200, 1e-99, 1.0] {
            let (found, truth) = (at_scale(&[3.0 * scale, -4.0 * scale], naive), 5.0 * scale);
            // One rounding upwards at most.
            assert!(found >= truth && found <= truth.next_up(), "{scale:e}: {found:e}");
        }
        assert_eq!(at_scale(&[0.0, 0.0], naive), 0.0);
        assert!(at_scale(&[f64::NAN, 1e-300], naive).is_nan());
    }
}
