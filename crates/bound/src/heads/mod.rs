//! What is put on a representation: heads, their losses, constants and bounds, in f64 on the host.

mod constants;
mod linear;
mod mlp;
mod neighbor;
mod normalized;
mod regression;

pub use constants::HeadConstants;
pub use linear::LinearHead;
pub use mlp::MlpHead;
pub use neighbor::KnnHead;
pub use normalized::{NormalisedHead, angle, cap_support, chord};
pub use regression::{RegressionHead, ScalarLoss, mean_squared_bound, squared_bound};

use crate::gap;

/// A head that classifies by softmax, seen through its gaps: what the bounds need of it.
///
/// Implemented by [`LinearHead`], [`MlpHead`] and [`NormalisedHead`]; a head of one's own needs the two
/// methods that say how large its gaps are and how far a displacement moves them.
pub trait SoftmaxHead {
    /// The number of classes.
    fn classes(&self) -> usize;

    /// The number of features.
    fn features(&self) -> usize;

    /// The gaps `m_j = logit_j − logit_label` `(k)` of one representation `(d)`.
    fn gaps(&self, z: &[f64], label: usize) -> Vec<f64>;

    /// Upper bounds `s_j` `(k)` of the rise of each gap when `z` moves by at most `radius` in l2.
    fn radius_supports(&self, z: &[f64], label: usize, radius: f64) -> Vec<f64>;

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
        gap::is_certified(&self.gaps(z, label), label, &self.radius_supports(z, label, radius))
    }
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
