//! Diagonal Gaussian laws whose variances depend on the input, Theorem C7 (docs/theory.md).

use super::gaussian_shift::gaussian_tv;
use super::kl::{bretagnolle_huber, pinsker};
use tarrl_tensor::math;

/// `N(μ, s²)` and `N(μ + shift, t²)`, coordinate by coordinate: Theorem C7 (docs/theory.md).
///
/// The exact shift form does not hold here: with different variances the likelihood ratio is no function of
/// one coordinate.
#[derive(Clone, Copy, Debug)]
pub struct DiagonalPair<'a> {
    /// `(d)`: the difference of the means.
    pub shift: &'a [f64],
    /// `(d)`: the deviations `s` of the first law, positive.
    pub from: &'a [f64],
    /// `(d)`: the deviations `t` of the second, positive.
    pub to: &'a [f64],
}

impl DiagonalPair<'_> {
    /// The affinity `∫ √(P P')` (Bhattacharyya), in `[0, 1]`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn affinity(&self) -> f64 {
        math::exp(self.log_affinity(1.0))
    }

    /// `KL(P ‖ P')`; of the other direction, of the pair with `from` and `to` exchanged.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn kl(&self) -> f64 {
        let term = |(d, s, t): (f64, f64, f64)| math::ln(t / s) + (s * s + d * d) / (2.0 * t * t) - 0.5;
        self.coordinates().map(term).sum()
    }

    /// `1 − affinity ≤ TV`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn tv_lower(&self) -> f64 {
        -math::exp_m1(self.log_affinity(1.0))
    }

    /// `√(1 − affinity²) ≥ TV`, through the distance of Hellinger.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn hellinger_bound(&self) -> f64 {
        (-math::exp_m1(2.0 * self.log_affinity(1.0))).sqrt()
    }

    /// `erf(‖shift/s‖ / (2√2)) + √(1 − affinity₀²) ≥ TV`: the exact distance of a move of the mean, then the
    /// change of the variances alone. Exact if these do not change.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn triangle_bound(&self) -> f64 {
        let rho = self.coordinates().map(|(d, s, _)| (d / s).powi(2)).sum::<f64>().sqrt();
        gaussian_tv(rho) + (-math::exp_m1(2.0 * self.log_affinity(0.0))).sqrt()
    }

    /// The least of the upper bounds of the total variation distance: of the two above, and of those from the
    /// divergences in both directions.
    ///
    /// # Panics
    /// If the lengths differ.
    #[track_caller]
    pub fn tv_upper(&self) -> f64 {
        let reverse = DiagonalPair { from: self.to, to: self.from, ..*self };
        let kl = self.kl().min(reverse.kl());
        let all = [self.hellinger_bound(), self.triangle_bound(), pinsker(kl), bretagnolle_huber(kl)];
        // A NaN in any bound means a NaN in the input.
        if all.iter().any(|v| v.is_nan()) { f64::NAN } else { all.into_iter().fold(1.0, f64::min) }
    }

    /// The logarithm of the affinity with `share` of the shift.
    #[track_caller]
    fn log_affinity(&self, share: f64) -> f64 {
        let term = |(d, s, t): (f64, f64, f64)| {
            let sum = s * s + t * t;
            // 2st = s² + t² − (s − t)²
            0.5 * math::ln_1p(-(s - t).powi(2) / sum) - (share * d).powi(2) / (4.0 * sum)
        };
        self.coordinates().map(term).sum()
    }

    #[track_caller]
    fn coordinates(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let d = self.shift.len();
        assert!(
            self.from.len() == d && self.to.len() == d,
            "DiagonalPair: {d} means, {} and {} deviations",
            self.from.len(),
            self.to.len()
        );
        self.shift.iter().zip(self.from).zip(self.to).map(|((d, s), t)| (*d, *s, *t))
    }
}
