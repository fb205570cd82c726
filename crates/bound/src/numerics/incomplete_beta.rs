//! Regularized incomplete beta function, for arguments of any size.

use statrs::function::gamma::ln_gamma;

/// `I_x(a, b)` for `a, b > 0` and `x` inside (0, 1): the continued fraction of Press et al. (Numerical Recipes, section
/// 6.4), evaluated by the algorithm of Lentz until it converges.
///
/// Near the mean of the beta distribution that takes some multiple of `√max(a, b)` terms. The logarithms of the gamma
/// function in front leave a relative error of about `(a + b) · 1e-14`.
#[allow(
    clippy::disallowed_methods,
    reason = "the bits of statrs, whose `ln_gamma` calls the system's functions anyway"
)]
pub(crate) fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges below the mean; above it, by symmetry, that of the complement does.
    if x >= (a + 1.0) / (a + b + 2.0) {
        1.0 - front * continued_fraction(b, a, 1.0 - x) / b
    } else {
        front * continued_fraction(a, b, x) / a
    }
}

fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    let away_from_zero = |v: f64| if v.abs() < SMALLEST { SMALLEST } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    let mut m = 1.0;
    loop {
        let even = m * (b - m) * x / ((a - 1.0 + 2.0 * m) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 1.0 + 2.0 * m));
        d = 1.0 / away_from_zero(1.0 + even * d);
        c = away_from_zero(1.0 + even / c);
        h = h * d * c;
        d = 1.0 / away_from_zero(1.0 + odd * d);
        c = away_from_zero(1.0 + odd / c);
        let change = d * c;
        h *= change;
        // Rounding may keep the change at the number next to 1 forever.
        let tolerance = if m < PATIENCE { 0.5 * f64::EPSILON } else { 4.0 * f64::EPSILON };
        if (change - 1.0).abs() <= tolerance || change.is_nan() {
            return h;
        }
        m += 1.0;
    }
}

/// Terms after which a last bit that does not settle is ignored.
const PATIENCE: f64 = 140.0;

/// Stands for a zero that would be divided by.
const SMALLEST: f64 = 2.0 * f64::MIN_POSITIVE / f64::EPSILON;

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::function::beta::beta_reg;

    #[test]
    fn small_arguments_give_the_bits_of_statrs() {
        for n in [1u32, 2, 7, 100, 2000, 10_000] {
            for k in [1, n / 2, n - n / 10, n] {
                for i in 1..200 {
                    let (a, b, x) = (f64::from(k.max(1)), f64::from(n - k.max(1) + 1), f64::from(i) / 200.0);
                    assert_eq!(
                        incomplete_beta(a, b, x).to_bits(),
                        beta_reg(a, b, x).to_bits(),
                        "{a} {b} {x}"
                    );
                }
            }
        }
    }

    /// `I_{1/2}(a, a) = 1/2`; the fraction takes thousands of terms there.
    #[test]
    fn the_symmetric_distribution_has_its_median_in_the_middle() {
        for (a, tolerance) in [(1e3, 1e-11), (2e7, 1e-6), (5e9, 1e-4)] {
            let found = incomplete_beta(a, a, 0.5);
            assert!((found - 0.5).abs() < tolerance, "{a}: {found}");
        }
    }
}
