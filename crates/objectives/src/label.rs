//! Losses of labeled references: cross-entropy and TRADES, and the divergence between predictions.

use crate::rows;
use tarrl_tensor::{Array, Tensor};

/// The mean cross-entropy of logits `(n, k)` against labels (U32 `(n)`): a scalar, in nats.
///
/// # Panics
/// If the shapes do not fit or a label is out of range.
#[track_caller]
pub fn cross_entropy(logits: &Tensor, labels: &Array) -> Tensor {
    logits.cross_entropy(labels).mean_all()
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

#[cfg(test)]
mod tests;
