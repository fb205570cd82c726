//! SimSiam: predicting the other view with a stop-gradient (Chen & He 2021).

use crate::embeddings::Embeddings;
use crate::error::ObjectiveError;
use crate::loss::SslLoss;
use crate::needs::Needs;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// [`simsiam()`], the mean of both directions of every pair of views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimSiam {}

impl SslLoss for SimSiam {
    fn name(&self) -> &'static str {
        "SimSiam"
    }

    fn needs(&self) -> Needs {
        Needs { predictor: true, targets: true, ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        Ok(())
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        let one = |p: usize, z: usize| simsiam(&batch.online[p], batch.target(z));
        batch.mean_over_pairs(&|i, j| (&one(i, j) + &one(j, i)).mul_scalar(0.5))
    }
}

/// One direction of SimSiam, `mean −cos(p, z)`: a scalar (Chen & He 2021, equation 1).
///
/// `prediction` `(n, d)` is the predictor's output of one view; `target` `(n, d)` the projection of the other view by
/// the same network, a constant here: without that stop the constant network is optimal (section 4.1 there). The loss of
/// a step is the mean of both directions. At −1 within a few epochs the network has collapsed.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn simsiam(prediction: &Tensor, target: &Tensor) -> Tensor {
    rows::pair("simsiam", prediction, target);
    rows::cosines(prediction, &target.detach()).mean_all().neg()
}
