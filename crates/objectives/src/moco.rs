//! Momentum contrast: against a queue of old keys (v2), or against the batch (v3).

use crate::queue::Queue;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Tensor, Transpose};

/// The settings of [`moco_v2`] in a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MocoV2 {
    /// τ: divides the cosine similarities.
    pub temperature: f64,
    /// K: how many keys the queue holds. If there are more than images, an image meets its own old key as a negative.
    pub queue: usize,
}

/// τ = 0.2 of the paper; K = 4096, from which on more keys bring nothing on CIFAR-10 (the authors' demonstration).
impl Default for MocoV2 {
    fn default() -> Self {
        MocoV2 { temperature: 0.2, queue: 4096 }
    }
}

/// MoCo's loss of queries against their keys and a queue: a scalar, in nats (He et al. 2020, equation 1; Chen
/// et al. 2020, "Improved Baselines with Momentum Contrastive Learning", for v2).
///
/// `[query, key]` are `(n, d)`; row `i` of both comes from one sample. With unit rows and the queue Q `(K, d)`, the
/// logits of a query are `[q·k, q·Qᵀ]/τ` and its label is the first. The keys are constants here: only the queries
/// receive gradient. The queue is read; [`Queue::push`] is the caller's, after the step. Symmetric MoCo is the sum of
/// both directions.
///
/// # Panics
/// If the shapes do not fit or τ is not positive.
#[track_caller]
pub fn moco_v2([query, key]: [&Tensor; 2], queue: &Queue, temperature: f64) -> Tensor {
    let n = rows::pair("moco_v2", query, key);
    rows::temperature("moco_v2", temperature);
    let negatives = queue.rows();
    assert_eq!(
        query.shape()[1],
        negatives.shape()[1],
        "moco_v2: queries {:?}, queue {:?}",
        query.shape(),
        negatives.shape()
    );
    let query = rows::unit(query);
    let positive = (&query * &rows::unit(&key.detach())).sum(1); // (n, 1)
    let negative = query.matmul_with(negatives, Transpose::RIGHT); // (n, K)
    let logits = Tensor::concat(&[&positive, &negative], 1).mul_scalar(1.0 / temperature);
    logits.cross_entropy(&rows::zeros(&query, n)).mean_all()
}

/// One direction of MoCo v3: `2τ` times the cross-entropy of `q̂·k̂ᵀ/τ` against the diagonal: a scalar (Chen et al.
/// 2021, "An Empirical Study of Training Self-Supervised Vision Transformers", equation 1 and algorithm 1).
///
/// `query` `(n, d)` is the predictor's output of one view, `key` `(n, d)` the momentum network's of the other, a
/// constant here; rows are normalized. Negatives are the keys of the other images alone. The loss of a step is the sum
/// of both directions. The factor makes gradients independent of τ to first order.
///
/// # Panics
/// If the shapes differ or τ is not positive.
#[track_caller]
pub fn moco_v3(query: &Tensor, key: &Tensor, temperature: f64) -> Tensor {
    let n = rows::pair("moco_v3", query, key);
    rows::temperature("moco_v3", temperature);
    let keys = rows::unit(&key.detach());
    let logits = rows::unit(query).matmul_with(&keys, Transpose::RIGHT).mul_scalar(1.0 / temperature);
    logits.cross_entropy(&rows::positions(query, n)).mean_all().mul_scalar(2.0 * temperature)
}

#[cfg(test)]
mod tests;
