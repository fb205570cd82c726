//! Barlow Twins: redundancy reduction (Zbontar et al. 2021).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, not_negative, positive};
use crate::loss::SslLoss;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Tensor, Transpose};

/// Added to the variance of every dimension, as batch norm without scale and shift does.
const EPS: f64 = 1e-5;

/// [`barlow_twins()`], the mean over all pairs of views.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BarlowTwins {
    /// λ: the weight of the correlations between different dimensions.
    pub off_diagonal: f64,
    /// A factor of the whole loss. It matters for everything whose learning rate does not adapt.
    pub scale: f64,
}

/// λ = 0.0051 of the authors' code (0.005 in the paper) and no factor.
impl Default for BarlowTwins {
    fn default() -> Self {
        BarlowTwins { off_diagonal: 0.0051, scale: 1.0 }
    }
}

impl SslLoss for BarlowTwins {
    fn name(&self) -> &'static str {
        "Barlow Twins"
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        not_negative("off_diagonal", self.off_diagonal)?;
        positive("scale", self.scale)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        batch.mean_over_pairs(&|i, j| barlow_twins(&batch.online[i], &batch.online[j], self))
    }
}

/// The loss of Barlow Twins: a scalar (Zbontar et al. 2021, equations 1 and 2).
///
/// `z1` and `z2` are `(n, d)`; row `i` of both comes from one sample, and both receive gradient. With ẑ the
/// dimensions normalized over the batch (biased variance plus 1e-5) and `C = ẑ1ᵀ ẑ2/n` `(d, d)`:
///
/// ```text
/// L = scale·[ Σ_i (C_ii − 1)² + λ Σ_{i ≠ j} C_ij² ]
/// ```
///
/// Rows are not normalized. Constant embeddings give `scale·d`.
///
/// # Panics
/// If the views differ in shape.
#[track_caller]
pub fn barlow_twins(z1: &Tensor, z2: &Tensor, config: &BarlowTwins) -> Tensor {
    let n = rows::pair("barlow_twins", z1, z2);
    let d = z1.shape()[1];
    let BarlowTwins { off_diagonal, scale } = *config;
    let correlation =
        standardized(z1).matmul_with(&standardized(z2), Transpose::LEFT).mul_scalar(1.0 / n as f64);
    let gap = &correlation - &rows::diagonal(z1, d, 1.0);
    // 1 on the diagonal, λ elsewhere.
    let weights = rows::diagonal(z1, d, 1.0 - off_diagonal).add_scalar(off_diagonal);
    (&gap.square() * &weights).sum_all().mul_scalar(scale)
}

fn standardized(z: &Tensor) -> Tensor {
    let centered = z - &z.mean(0);
    &centered / &centered.square().mean(0).add_scalar(EPS).sqrt()
}

#[cfg(test)]
mod tests;
