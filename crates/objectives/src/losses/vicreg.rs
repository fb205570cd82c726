//! VICReg: variance, invariance, covariance (Bardes et al. 2022).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, not_negative};
use crate::loss::SslLoss;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Tensor, Transpose};

/// Added to the variance under the root.
const EPS: f64 = 1e-4;

/// [`vicreg()`], the mean over all pairs of views.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VicReg {
    /// λ: of the distance between the views.
    pub invariance: f64,
    /// μ: of what the standard deviations lack to one.
    pub variance: f64,
    /// ν: of the covariances.
    pub covariance: f64,
}

/// λ = μ = 25, ν = 1 (section 4.2 of the paper).
impl Default for VicReg {
    fn default() -> Self {
        VicReg { invariance: 25.0, variance: 25.0, covariance: 1.0 }
    }
}

impl SslLoss for VicReg {
    fn name(&self) -> &'static str {
        "VICReg"
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        not_negative("invariance", self.invariance)?;
        not_negative("variance", self.variance)?;
        not_negative("covariance", self.covariance)
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(
            "end the projector with a batch norm, because VICReg grows with the fourth power of the embeddings and \
             overflows f32 where they exceed about 1e9",
        )
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        batch.mean_over_pairs(&|i, j| vicreg(&batch.online[i], &batch.online[j], self))
    }
}

/// The loss of VICReg: a scalar (Bardes et al. 2022, equations 1 to 6).
///
/// `z1` and `z2` are `(n, d)`; row `i` of both comes from one sample. Nothing is normalized or stopped. With unbiased
/// variances and covariances of each view:
///
/// ```text
/// L = λ/(nd) ‖z1 − z2‖² + μ·½ Σ_views 1/d Σ_j max(0, 1 − √(Var_j + 1e-4)) + ν Σ_views 1/d Σ_{j ≠ k} Cov_jk²
/// ```
///
/// The half stands in the authors' code, not in their equation. Constant embeddings give `0.99 μ`. The loss grows with
/// the fourth power of the embeddings: from about 1e9 on it is infinite in f32.
///
/// # Panics
/// If the views differ in shape or have one row: it has no variance.
#[track_caller]
pub fn vicreg(z1: &Tensor, z2: &Tensor, config: &VicReg) -> Tensor {
    let n = rows::pair("vicreg", z1, z2);
    assert!(n > 1, "vicreg: one row of {:?} has no variance", z1.shape());
    let invariance = (z1 - z2).square().mean_all().mul_scalar(config.invariance);
    let [(v1, c1), (v2, c2)] = [z1, z2].map(|z| hinge_and_covariance(z, n));
    let variance = (&v1 + &v2).mul_scalar(0.5 * config.variance);
    let covariance = (&c1 + &c2).mul_scalar(config.covariance);
    &(&invariance + &variance) + &covariance
}

/// What the deviations of one view lack to one, and its squared covariances, both over d.
fn hinge_and_covariance(z: &Tensor, n: usize) -> (Tensor, Tensor) {
    let d = z.shape()[1];
    let centered = z - &z.mean(0);
    let unbiased = 1.0 / (n - 1) as f64;
    let deviation = centered.square().sum(0).mul_scalar(unbiased).add_scalar(EPS).sqrt();
    let lack = deviation.neg().add_scalar(1.0).relu().mean_all();
    let covariance = centered.matmul_with(&centered, Transpose::LEFT).mul_scalar(unbiased); // (d, d)
    let others = rows::diagonal(z, d, -1.0).add_scalar(1.0);
    // Masked before the square, which may overflow: infinity times zero would be no number.
    (lack, (&covariance * &others).square().sum_all().mul_scalar(1.0 / d as f64))
}

#[cfg(test)]
mod tests;
