//! NT-Xent: the normalized temperature-scaled cross-entropy of SimCLR (Chen et al. 2020).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, positive};
use crate::loss::SslLoss;
use crate::rows;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use tarrl_tensor::{Array, Tensor, math};

/// [`nt_xent()`], the mean over all pairs of views.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NtXent {
    /// τ: divides the cosine similarities; positive and finite.
    #[serde(deserialize_with = "positive_temperature")]
    pub temperature: f64,
}

/// τ = 0.5, SimCLR's on CIFAR-10.
impl Default for NtXent {
    fn default() -> Self {
        NtXent { temperature: 0.5 }
    }
}

impl SslLoss for NtXent {
    fn name(&self) -> &'static str {
        "NT-Xent"
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        positive("temperature", self.temperature)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        batch.mean_over_pairs(&|i, j| nt_xent(&batch.online[i], &batch.online[j], self.temperature))
    }
}

/// NT-Xent of two views `(n, d)` at `temperature` τ: a scalar, in nats (Chen et al. 2020, equation 1).
///
/// Row `i` of both views comes from one sample. Rows are normalized here, both views receive
/// gradient, and the loss is the mean over the `2n` anchors, so that swapping the views changes
/// nothing. It is `ln(2n − 1)` when all rows are equal (collapse) and 0 for a single pair, which has
/// no negatives.
///
/// A row's similarity to itself is masked before the logarithm of the sum, not subtracted after it:
/// at τ = 0.01 it would be e¹⁰⁰, and a gradient would pass through it. The `(2n, 2n)` similarities
/// are one matrix product; memory grows with n².
///
/// # Panics
/// If the views differ in shape or type, are not `(n, d)` with `n > 0`, or τ is not positive.
#[track_caller]
pub fn nt_xent(z1: &Tensor, z2: &Tensor, temperature: f64) -> Tensor {
    let n = rows::pair("nt_xent", z1, z2);
    rows::temperature("nt_xent", temperature);
    let z = rows::unit(&Tensor::concat(&[z1, z2], 0)); // (2n, d)
    // The temperature goes half into each factor of a similarity.
    let z = z.mul_scalar(math::powf(temperature, -0.5));
    z.nt_xent(&other_view(&z, n)).mean_all()
}

/// `(2n)`: for each row the position of the same sample's other view.
fn other_view(like: &Tensor, n: usize) -> Array {
    let positions: Vec<u32> = (0..2 * n).map(|i| ((i + n) % (2 * n)) as u32).collect();
    Array::table(like.device(), [2 * n], &positions)
}

fn positive_temperature<'de, D: Deserializer<'de>>(source: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(source)?;
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(D::Error::custom(format!("the temperature is {value}; it divides similarities and must be positive")))
}

#[cfg(test)]
mod tests;
