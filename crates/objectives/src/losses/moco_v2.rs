//! MoCo v2: momentum contrast against a queue of old keys (He et al. 2020; Chen et al. 2020).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, at_least, positive};
use crate::loss::SslLoss;
use crate::needs::Needs;
use crate::queue::Queue;
use crate::rows;
use crate::state::{self, LossState};
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Device, Key, Tensor, Transpose};

/// [`moco_v2()`], the sum of both directions of every pair of views, over the number of pairs.
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

impl SslLoss for MocoV2 {
    fn name(&self) -> &'static str {
        "MoCo v2"
    }

    fn needs(&self) -> Needs {
        Needs { targets: true, momentum: true, queue: Some(self.queue), ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        positive("temperature", self.temperature)?;
        at_least(1, "queue", self.queue)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        let queue: &Queue = batch.state("moco-v2: no queue");
        let one = |q: usize, k: usize| moco_v2([&batch.online[q], batch.target(k)], queue, self.temperature);
        batch.mean_over_pairs(&|i, j| &one(i, j) + &one(j, i))
    }

    fn initial_state(&self, device: &Device, key: Key, dim: usize) -> Option<Box<dyn LossState>> {
        Some(Box::new(Queue::new(device, key, [self.queue, dim])))
    }

    fn update(&self, state: &mut dyn LossState, targets: &[Tensor]) {
        let queue: &mut Queue = state::own(state);
        targets.iter().for_each(|keys| queue.push(keys));
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

#[cfg(test)]
mod tests;
