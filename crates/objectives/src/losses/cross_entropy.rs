//! Cross-entropy: the loss of supervised references.

use crate::embeddings::Embeddings;
use crate::error::ObjectiveError;
use crate::loss::SslLoss;
use crate::needs::{Needs, Views};
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Array, Tensor};

/// [`cross_entropy()`] of logits, the mean over views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropy {}

impl SslLoss for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn needs(&self) -> Needs {
        Needs { views: Views::AtLeast(1), classifier: true, labels: true, ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        Ok(())
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        rows::mean(batch.online.iter().map(|logits| cross_entropy(logits, batch.labels())).collect())
    }
}

/// The mean cross-entropy of logits `(n, k)` against labels (U32 `(n)`): a scalar, in nats.
///
/// # Panics
/// If the shapes do not fit or a label is out of range.
#[track_caller]
pub fn cross_entropy(logits: &Tensor, labels: &Array) -> Tensor {
    logits.cross_entropy(labels).mean_all()
}
