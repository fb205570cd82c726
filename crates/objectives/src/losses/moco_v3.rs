//! MoCo v3: momentum contrast against the keys of the batch (Chen et al. 2021).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, positive};
use crate::loss::SslLoss;
use crate::needs::Needs;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Tensor, Transpose};

/// [`moco_v3()`], the sum of both directions of every pair of views, over the number of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MocoV3 {
    /// τ: divides the cosine similarities.
    pub temperature: f64,
}

/// τ = 1, as for ResNets.
impl Default for MocoV3 {
    fn default() -> Self {
        MocoV3 { temperature: 1.0 }
    }
}

impl SslLoss for MocoV3 {
    fn name(&self) -> &'static str {
        "MoCo v3"
    }

    fn needs(&self) -> Needs {
        Needs { predictor: true, targets: true, momentum: true, ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        positive("temperature", self.temperature)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        let one = |q: usize, k: usize| moco_v3(&batch.online[q], batch.target(k), self.temperature);
        batch.mean_over_pairs(&|i, j| &one(i, j) + &one(j, i))
    }
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
