//! Normal distribution function Φ and its inverse.

use libm::erfc;
use statrs::function::erf::erfc_inv;
use std::f64::consts::{PI, SQRT_2};
use tarrl_tensor::math;

/// Φ: the distribution function of the standard normal law, to full relative precision in its lower tail.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x / SQRT_2)
}

/// Φ⁻¹: minus infinity at 0, infinity at 1.
///
/// # Panics
/// If `p` is no probability.
#[track_caller]
pub fn normal_quantile(p: f64) -> f64 {
    super::total_variation::check_probability(p);
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    let x = -SQRT_2 * erfc_inv(2.0 * p);
    // One step of Newton's method on the logarithm takes what rational approximations leave.
    let density = math::exp(-0.5 * x * x) / (2.0 * PI).sqrt();
    let cdf = normal_cdf(x);
    if density > 0.0 { x - math::ln(cdf / p) * cdf / density } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By arithmetic of forty digits.
    #[test]
    fn normal_quantiles_match_forty_digit_arithmetic() {
        for (p, x) in QUANTILES {
            assert!((normal_quantile(p) / x - 1.0).abs() < 2e-15, "{p}: {} but {x}", normal_quantile(p));
            assert!((normal_cdf(x) / p - 1.0).abs() < 1e-13, "{x}: {:e} but {p:e}", normal_cdf(x));
        }
        assert_eq!(normal_quantile(0.5), 0.0);
        assert_eq!((normal_quantile(0.0), normal_quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
    }

    const QUANTILES: [(f64, f64); 5] = [
        (1e-300, -37.0470962993612),
        (1e-12, -7.034483825301132),
        (0.025, -1.9599639845400543),
        (0.3, -0.5244005127080408),
        (0.9, 1.2815515655446006),
    ];
}
