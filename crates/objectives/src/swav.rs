//! Predicting the cluster of one view from the other.

use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// The settings of [`swav`] and its codes in a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwAv {
    /// τ: divides the scores that predict.
    pub temperature: f64,
    /// ε: divides the scores that codes are made of.
    pub epsilon: f64,
    /// Turns of Sinkhorn and Knopp.
    pub iterations: usize,
    /// How many prototypes the network scores.
    pub prototypes: usize,
}

/// τ = 0.1, ε = 0.05 and three turns of the paper; 512 prototypes, usual for CIFAR-10.
impl Default for SwAv {
    fn default() -> Self {
        SwAv { temperature: 0.1, epsilon: 0.05, iterations: 3, prototypes: 512 }
    }
}

/// The loss of SwAV for two views, the mean of the cross-entropies of each view's codes against the other's scores: a
/// scalar, in nats (Caron et al. 2020, equations 1 and 2).
///
/// `scores` are the products `(n, k)` of unit embeddings with unit prototypes, and receive gradient; `codes`
/// `(n, k)` are those of the same views from [`sinkhorn`], constants here. Codes of the one view meet scores of the
/// other: `½[−mean Σ q2 ln softmax(s1/τ) − mean Σ q1 ln softmax(s2/τ)]`.
///
/// # Panics
/// If the shapes differ or τ is not positive.
#[track_caller]
pub fn swav(scores: [&Tensor; 2], codes: [&Tensor; 2], temperature: f64) -> Tensor {
    rows::temperature("swav", temperature);
    let n = rows::pair("swav", scores[0], scores[1]);
    let direction = |scores: &Tensor, codes: &Tensor| {
        rows::pair("swav", scores, codes);
        (&codes.detach() * &scores.mul_scalar(1.0 / temperature).log_softmax()).sum_all()
    };
    let both = &direction(scores[0], codes[1]) + &direction(scores[1], codes[0]);
    both.mul_scalar(-0.5 / n as f64)
}

/// Codes of scores `(n, k)`: rows sum to one, columns nearly to `n/k`, found by `iterations` turns of Sinkhorn and
/// Knopp on `exp(scores/ε)` (Caron et al. 2020, section 3.1; ε = 0.05 and three turns there). A constant.
///
/// In logarithms: exp(1/0.05) = 5e8 would leave half precision at once. To use more samples than the batch, concatenate
/// their scores and keep the rows of the batch.
///
/// # Panics
/// If the scores are not `(n, k)` or ε is not positive.
#[track_caller]
pub fn sinkhorn(scores: &Tensor, epsilon: f64, iterations: usize) -> Tensor {
    rows::pair("sinkhorn", scores, scores);
    assert!(epsilon > 0.0, "sinkhorn: ε is {epsilon}, not positive");
    let mut logs = scores.detach().mul_scalar(1.0 / epsilon);
    for _ in 0..iterations {
        logs = &logs - &logs.logsumexp(0);
        logs = &logs - &logs.logsumexp(1);
    }
    logs.softmax()
}

#[cfg(test)]
mod tests;
