//! NT-Xent of several views at once, all against all: RoCL and AdvCL.

use super::sup_con::{Sides, contrast};
use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, positive};
use crate::loss::SslLoss;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// [`nt_xent_together()`], all views against all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NtXentTogether {
    /// τ: divides the cosine similarities.
    pub temperature: f64,
    /// Which factor of a similarity receives gradient.
    pub sides: Sides,
}

/// τ = 0.5, RoCL's, and gradients in both factors.
impl Default for NtXentTogether {
    fn default() -> Self {
        NtXentTogether { temperature: 0.5, sides: Sides::Both }
    }
}

impl SslLoss for NtXentTogether {
    fn name(&self) -> &'static str {
        "NT-Xent of all views"
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        positive("temperature", self.temperature)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        nt_xent_together(&batch.views(), self.temperature, self.sides)
    }
}

/// NT-Xent of several views at once: the mean over the `v·n` anchors and the `v − 1` positives of each, against
/// all other rows of all views: a scalar, in nats.
///
/// Each of `views` is `(n, d)`; rows are normalized here. Of two views it is [`nt_xent`](crate::nt_xent()). RoCL's
/// term of three views (both clean ones and the attacked one, Kim et al. 2020) is, as coded, twice this
/// with [`Sides::Anchor`].
///
/// # Panics
/// If the views are fewer than two or differ in shape, or τ is not positive.
#[track_caller]
pub fn nt_xent_together(views: &[&Tensor], temperature: f64, sides: Sides) -> Tensor {
    let n = rows::views("nt_xent_together", views);
    contrast(views, &rows::positions(views[0], n), temperature, sides)
}
