//! Vector helpers: dot product, l2 norm, and maxima and minima that propagate a NaN.

pub(crate) fn l2_norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
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
