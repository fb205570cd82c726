//! SupCon: contrast with any number of positives (Khosla et al. 2020).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, not_negative, positive};
use crate::loss::SslLoss;
use crate::needs::Needs;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Array, Tensor, Transpose};

/// Which factor of a similarity receives gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sides {
    /// Both: the gradient of the loss.
    #[default]
    Both,
    /// The anchor's row alone, the others being constants: the similarities are `z·sg(z)ᵀ`. So RoCL is
    /// coded (Kim et al. 2020), in the loss and in its attack.
    Anchor,
}

/// [`sup_con()`], all views together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupCon {
    /// τ: divides the cosine similarities.
    pub temperature: f64,
    /// τ_b: the loss is multiplied by τ/τ_b; 0 for τ_b = τ, which multiplies by one.
    pub base_temperature: f64,
}

/// τ = 0.1 of Khosla et al. (2020, section 4), without the factor of their code, where τ_b = 0.07.
impl Default for SupCon {
    fn default() -> Self {
        SupCon { temperature: 0.1, base_temperature: 0.0 }
    }
}

impl SslLoss for SupCon {
    fn name(&self) -> &'static str {
        "SupCon"
    }

    fn needs(&self) -> Needs {
        Needs { labels: true, ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        positive("temperature", self.temperature)?;
        not_negative("base_temperature", self.base_temperature)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        sup_con(&batch.views(), batch.labels(), self)
    }
}

/// The supervised contrastive loss of `views`, each `(n, d)`: a scalar, in nats (Khosla et al. 2020, L_out of
/// equation 2).
///
/// Row `i` of every view comes from sample `i`, whose label is `labels[i]` (U32 `(n)`). With the `m = v·n` unit
/// rows of all views, `S = z zᵀ/τ` and P(i) the other rows with the label of row `i`:
///
/// ```text
/// L = (τ/τ_b)/m Σ_i 1/|P(i)| Σ_{p ∈ P(i)} [ ln Σ_{a ≠ i} exp(S_ia) − S_ip ]
/// ```
///
/// Rows are normalized here and receive gradient on both sides. A row without positives contributes 0 and
/// stays in the mean. With the labels 0 … n − 1 the positives are the other views of the same image: of two
/// views that is [`nt_xent`](crate::nt_xent()), of more the contrast of AdvCL (Fan et al. 2021).
///
/// # Panics
/// If the views are fewer than two or differ in shape, the labels are not a U32 vector of n, or a
/// temperature is not positive.
#[track_caller]
pub fn sup_con(views: &[&Tensor], labels: &Array, config: &SupCon) -> Tensor {
    let SupCon { temperature, base_temperature } = *config;
    let loss = contrast(views, labels, temperature, Sides::Both);
    if base_temperature == 0.0 { loss } else { loss.mul_scalar(temperature / base_temperature) }
}

/// The mean over anchors of the mean over their positives.
#[track_caller]
pub(crate) fn contrast(views: &[&Tensor], labels: &Array, temperature: f64, sides: Sides) -> Tensor {
    let n = rows::views("sup_con", views);
    rows::temperature("sup_con", temperature);
    assert!(
        labels.shape()[..] == [n],
        "sup_con: views of {:?}, labels {:?}",
        views[0].shape(),
        labels.shape()
    );
    let labels: Vec<u32> = labels.to_vec();
    let m = n * views.len();
    let z = rows::unit(&Tensor::concat(views, 0)); // (m, d)
    let others = match sides {
        Sides::Both => z.clone(),
        Sides::Anchor => z.detach(),
    };
    let similarities = z.matmul_with(&others, Transpose::RIGHT).mul_scalar(1.0 / temperature); // (m, m)
    let logs = (&similarities + &rows::self_mask(&z, m, temperature)).log_softmax();
    (&logs * &positives(&z, &labels, m)).sum_all().mul_scalar(-1.0 / m as f64)
}

/// `(m, m)`: 1/|P(i)| where column j is a positive of row i, else 0.
fn positives(like: &Tensor, labels: &[u32], m: usize) -> Tensor {
    let label = |row: usize| labels[row % labels.len()];
    let mut weights = vec![0.0f64; m * m];
    for (i, row) in weights.chunks_exact_mut(m).enumerate() {
        let positive = |j: usize| j != i && label(j) == label(i);
        let count = (0..m).filter(|&j| positive(j)).count();
        for (_, weight) in row.iter_mut().enumerate().filter(|(j, _)| positive(*j)) {
            *weight = 1.0 / count as f64;
        }
    }
    Tensor::new(like.device(), [m, m], &weights).cast(like.dtype())
}

#[cfg(test)]
mod tests;
