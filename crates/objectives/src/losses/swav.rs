//! SwAV: predicting the cluster of one view from the other (Caron et al. 2020).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, at_least, positive};
use crate::loss::SslLoss;
use crate::needs::Needs;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// [`swav()`] with codes of [`sinkhorn`], the mean over all pairs of views. The network gives scores: products of unit
/// embeddings with unit prototypes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwAv {
    /// τ: divides the scores that predict.
    pub temperature: f64,
    /// ε: divides the scores that codes are made of.
    pub epsilon: f64,
    /// Iterations of Sinkhorn and Knopp.
    pub iterations: usize,
    /// How many prototypes the network scores.
    pub prototypes: usize,
}

/// τ = 0.1, ε = 0.05 and three iterations of the paper; 512 prototypes, usual for CIFAR-10.
impl Default for SwAv {
    fn default() -> Self {
        SwAv { temperature: 0.1, epsilon: 0.05, iterations: 3, prototypes: 512 }
    }
}

impl SslLoss for SwAv {
    fn name(&self) -> &'static str {
        "SwAV"
    }

    fn needs(&self) -> Needs {
        Needs { prototypes: Some(self.prototypes), ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        positive("temperature", self.temperature)?;
        positive("epsilon", self.epsilon)?;
        at_least(1, "iterations", self.iterations)?;
        at_least(2, "prototypes", self.prototypes)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        let scores = batch.online;
        let codes: Vec<Tensor> = scores.iter().map(|s| sinkhorn(s, self.epsilon, self.iterations)).collect();
        batch
            .mean_over_pairs(&|i, j| swav([&scores[i], &scores[j]], [&codes[i], &codes[j]], self.temperature))
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

/// Codes of scores `(n, k)`: rows sum to one, columns nearly to `n/k`, found by `iterations` of Sinkhorn and
/// Knopp on `exp(scores/ε)` (Caron et al. 2020, section 3.1; ε = 0.05 and three iterations there). A constant.
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
