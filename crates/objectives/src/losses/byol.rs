//! BYOL: predicting the momentum encoder's projection of the other view (Grill et al. 2020).

use crate::embeddings::Embeddings;
use crate::error::ObjectiveError;
use crate::loss::SslLoss;
use crate::needs::Needs;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// [`byol()`], the sum of both directions of every pair of views, over the number of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Byol {}

impl SslLoss for Byol {
    fn name(&self) -> &'static str {
        "BYOL"
    }

    fn needs(&self) -> Needs {
        Needs { predictor: true, targets: true, momentum: true, ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        Ok(())
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        let one = |p: usize, k: usize| byol(&batch.online[p], batch.target(k));
        batch.mean_over_pairs(&|i, j| &one(i, j) + &one(j, i))
    }
}

/// One direction of BYOL, `mean (2 − 2 cos(p, k))`: a scalar (Grill et al. 2020, equation 2).
///
/// `prediction` `(n, d)` is the predictor's output of one view; `target` `(n, d)` the momentum network's projection of
/// the other, a constant here. Rows are normalized. The loss of a step is the sum of both directions.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn byol(prediction: &Tensor, target: &Tensor) -> Tensor {
    rows::pair("byol", prediction, target);
    rows::cosines(prediction, &target.detach()).mean_all().mul_scalar(-2.0).add_scalar(2.0)
}

#[cfg(test)]
mod tests;
