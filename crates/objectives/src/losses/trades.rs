//! TRADES: cross-entropy and the divergence of adversarial predictions (Zhang et al. 2019).

use super::cross_entropy::cross_entropy;
use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, not_negative};
use crate::loss::SslLoss;
use crate::needs::{Needs, Views};
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Array, Tensor};

/// [`trades()`] of two views, the clean and the attacked one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trades {
    /// β: the weight of the divergence.
    pub beta: f64,
}

/// β = 6 of the paper.
impl Default for Trades {
    fn default() -> Self {
        Trades { beta: 6.0 }
    }
}

impl SslLoss for Trades {
    fn name(&self) -> &'static str {
        "TRADES"
    }

    fn needs(&self) -> Needs {
        Needs { views: Views::CleanAndAdversarial, classifier: true, labels: true, ..Needs::default() }
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        not_negative("beta", self.beta)
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        match batch.online {
            [clean, adversarial] => trades([clean, adversarial], batch.labels(), self.beta),
            views => panic!("trades: {} views; it compares the clean and the attacked one", views.len()),
        }
    }
}

/// The loss of TRADES, `CE(f(x), y) + β·KL(f(x) ‖ f(x'))`: a scalar, in nats (Zhang et al. 2019).
///
/// `[clean, adversarial]` are logits `(n, k)` of images and of their attacked neighbors; both receive gradient, as in
/// the authors' code. The attack ascends the divergence from constant clean logits. β is 6 in the paper.
///
/// # Panics
/// If the shapes do not fit or a label is out of range.
#[track_caller]
pub fn trades([clean, adversarial]: [&Tensor; 2], labels: &Array, beta: f64) -> Tensor {
    &cross_entropy(clean, labels) + &kl_divergence(clean, adversarial).mul_scalar(beta)
}

/// The mean over rows of `KL(softmax(p) ‖ softmax(q))` of logits `(n, k)`: a scalar, in nats. Both receive gradient.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn kl_divergence(p: &Tensor, q: &Tensor) -> Tensor {
    let n = rows::pair("kl_divergence", p, q);
    let (p, q) = (p.log_softmax(), q.log_softmax());
    (&p.exp() * &(&p - &q)).sum_all().mul_scalar(1.0 / n as f64)
}

#[cfg(test)]
mod tests;
