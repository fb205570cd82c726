//! Softmax heads: the trait that the logit-gap bounds are computed from.

use crate::theorems::gap;

/// A head that classifies by softmax, described by its logit gaps.
///
/// Implemented by [`LinearHead`](crate::LinearHead), [`MlpHead`](crate::MlpHead) and [`NormalizedHead`](crate::NormalizedHead); an implementation for another head provides its
/// gaps, how far a displacement moves them, and how far rounding does.
pub trait SoftmaxHead {
    /// The number of classes.
    fn classes(&self) -> usize;

    /// The number of features.
    fn features(&self) -> usize;

    /// The gaps `m_j = logit_j − logit_label` `(k)` of one representation `(d)`.
    fn gaps(&self, z: &[f64], label: usize) -> Vec<f64>;

    /// Upper bounds `s_j` `(k)` of the increase of each gap when `z` moves by at most `radius` in l2.
    fn radius_supports(&self, z: &[f64], label: usize, radius: f64) -> Vec<f64>;

    /// Upper bounds `(k)` of what rounding adds to the increase of each gap, computed in f64 at `z` and at any point within
    /// `radius` of it: Theorem R1 (docs/certificates.md).
    fn gap_rounding(&self, z: &[f64], label: usize, radius: f64) -> Vec<f64>;

    /// The cross-entropy of one representation, in nats.
    fn loss(&self, z: &[f64], label: usize) -> f64 {
        gap::loss(&self.gaps(z, label), label)
    }

    /// The largest cross-entropy within `radius` of `z` is at most this: Theorem A2 (docs/theory.md).
    fn radius_bound(&self, z: &[f64], label: usize, radius: f64) -> f64 {
        gap::logit_gap_bound(&self.gaps(z, label), label, &self.radius_supports(z, label, radius))
    }

    /// Whether every point within `radius` of `z` is classified as `label`: Theorem B2 (docs/theory.md).
    fn is_certified(&self, z: &[f64], label: usize, radius: f64) -> bool {
        let supports = self.radius_supports(z, label, radius).into_iter();
        let supports: Vec<f64> =
            supports.zip(self.gap_rounding(z, label, radius)).map(|(s, e)| s + e).collect();
        gap::is_certified(&self.gaps(z, label), label, &supports)
    }
}
