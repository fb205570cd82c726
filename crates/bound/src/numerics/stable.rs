//! Log-sum-exp, softplus and maxima without cancellation, through which a NaN is propagated: a bound computed from
//! NaN must not look like a number.

use tarrl_tensor::math;

/// `ln(1 + Σ eᵛ)` to full relative precision, where it is tiny as where it is large.
pub(crate) fn log1p_sum_exp(v: impl Iterator<Item = f64> + Clone) -> f64 {
    softplus(log_sum_exp(v))
}

/// `ln Σ eᵛ`; minus infinity for no terms.
pub(crate) fn log_sum_exp(v: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = largest(v.clone());
    if top.is_infinite() { top } else { top + math::ln(v.map(|v| math::exp(v - top)).sum()) }
}

/// `ln(1 + eᵗ)`.
pub(crate) fn softplus(t: f64) -> f64 {
    if t > 0.0 { t + math::ln_1p(math::exp(-t)) } else { math::ln_1p(math::exp(t)) }
}

/// The largest term, minus infinity of none, and NaN if any is (`f64::max` would drop it).
pub(crate) fn largest(v: impl Iterator<Item = f64>) -> f64 {
    v.fold(f64::NEG_INFINITY, |top, v| if v.is_nan() || v > top { v } else { top })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_keep_their_precision() {
        // ln(1 + e⁻⁴⁰⁰) = e⁻⁴⁰⁰ to first order; ln(1 + e⁸⁰⁰) = 800.
        assert!((softplus(-400.0) / (-400.0f64).exp() - 1.0).abs() < 1e-15);
        assert_eq!(softplus(800.0), 800.0);
        assert!((log1p_sum_exp([-50.0, -50.0].into_iter()) / (2.0 * (-50.0f64).exp()) - 1.0).abs() < 1e-14);
        assert_eq!(log1p_sum_exp(std::iter::empty()), 0.0);
        assert_eq!(log1p_sum_exp([0.0].into_iter()), 2.0f64.ln());
    }

    #[test]
    fn a_nan_is_never_lost() {
        for v in [[f64::NAN, 1.0], [1.0, f64::NAN], [f64::NAN, f64::NEG_INFINITY]] {
            assert!(largest(v.into_iter()).is_nan(), "{v:?}");
            assert!(log1p_sum_exp(v.into_iter()).is_nan(), "{v:?}");
        }
        assert_eq!(largest([1.0, 3.0, 2.0].into_iter()), 3.0);
    }
}
