//! W-MSE: whitening in place of negatives (Ermolov et al. 2021).

use crate::embeddings::Embeddings;
use crate::error::{ObjectiveError, at_least, fraction};
use crate::loss::SslLoss;
use crate::needs::Needs;
use crate::rows;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Array, Key, Tensor, Transpose};

/// [`w_mse()`], all views together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WMse {
    /// Rows that are whitened together; at least twice the dimension, and a divisor of the batch.
    pub block: usize,
    /// ε: the covariance is mixed with the identity, `(1 − ε)Σ + εI`. 1e-4 where features die.
    pub epsilon: f64,
    /// How many ways of cutting the batch into blocks are averaged.
    pub cuts: usize,
}

/// Blocks of 128 for 64 dimensions, ε = 0, one cut.
impl Default for WMse {
    fn default() -> Self {
        WMse { block: 128, epsilon: 0.0, cuts: 1 }
    }
}

impl SslLoss for WMse {
    fn name(&self) -> &'static str {
        "W-MSE"
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        at_least(1, "cuts", self.cuts)?;
        fraction("epsilon", self.epsilon)?;
        at_least(2, "block", self.block)
    }

    fn needs(&self) -> Needs {
        Needs { block: Some(self.block), ..Needs::default() }
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(match self.epsilon {
            0.0 => {
                "set objective.epsilon to 1e-4, because W-MSE has no value where the embeddings of a block do not span \
                 all dimensions"
            }
            _ => {
                "raise objective.epsilon, because W-MSE has no value where the embeddings of a block do not span all \
                 dimensions and epsilon is lost beside their variance"
            }
        })
    }

    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor {
        w_mse(&batch.views(), self, batch.key)
    }
}

/// The loss of W-MSE, `mean (2 − 2 cos(y_i, y_j))` of whitened views: a scalar (Ermolov et al. 2021).
///
/// Each of `views` is `(n, d)`; row `i` of all comes from one sample. A permutation drawn from `key` cuts the rows
/// into blocks, the same for all views; each block of each view is whitened for itself ([`whiten`]), then its rows are
/// normalized. The mean is over all pairs of views and over the cuts. All views receive gradient, also through the
/// whitening; nothing is stopped.
///
/// # Panics
/// If the views are fewer than two or differ in shape, or n is not a multiple of the block.
#[track_caller]
pub fn w_mse(views: &[&Tensor], config: &WMse, key: Key) -> Tensor {
    let n = rows::views("w_mse", views);
    let WMse { block, epsilon, cuts } = *config;
    assert!(
        block > 1 && n.is_multiple_of(block) && cuts > 0,
        "w_mse: {n} rows in {cuts} cuts into blocks of {block}"
    );
    let mut losses = Vec::new();
    for cut in 0..cuts {
        let mut order: Vec<u32> = (0..n as u32).collect();
        key.fold(cut).stream().shuffle(&mut order);
        for rows in order.chunks_exact(block) {
            let rows = Array::new(views[0].device(), [block], rows);
            let white: Vec<Tensor> =
                views.iter().map(|z| rows::unit(&whiten(&z.gather(0, &rows), epsilon))).collect();
            for (i, a) in white.iter().enumerate() {
                losses.extend(white[i + 1..].iter().map(|b| (a * b).sum(1).mean_all()));
            }
        }
    }
    let sum = losses[1..].iter().fold(losses[0].clone(), |sum, cosine| &sum + cosine);
    sum.mul_scalar(-2.0 / losses.len() as f64).add_scalar(2.0)
}

/// `(n, d)` rows as `L⁻¹(x − mean)`, where `L Lᵀ = (1 − ε)Σ + εI` is the Cholesky factorization of their unbiased
/// covariance: for ε = 0 their covariance is then the identity. Differentiable, to any order.
///
/// If the covariance is singular the result is not finite: take more rows than dimensions, or ε > 0. Rows as large or as
/// small as the element type allows are rescaled first, so that their squares neither overflow nor vanish.
#[track_caller]
pub fn whiten(x: &Tensor, epsilon: f64) -> Tensor {
    let &[n, d] = &x.shape()[..] else { panic!("whiten: rows {:?}, expected (n, d)", x.shape()) };
    assert!(n > 1 && d > 0, "whiten: {:?} has no covariance", x.shape());
    let centered = x - &x.mean(0);
    // `(1 − ε)Σ + εI` of `s x` is s² times the same of `x` with ε/s², and both whiten `x` alike.
    let unit = unit_of(&centered, epsilon);
    let centered = &centered / &unit;
    let covariance =
        centered.matmul_with(&centered, Transpose::LEFT).mul_scalar((1.0 - epsilon) / (n - 1) as f64);
    let identity = rows::diagonal(x, d, epsilon);
    let covariance = &covariance + &(&(&identity / &unit) / &unit);
    // One elimination on the covariance and, below it, the rows: column j of what is left, divided by the root of its
    // pivot, is column j of L above and of the whitened rows below.
    let mut left = Tensor::concat(&[&covariance, &centered], 0); // (d + n, d)
    let mut columns = Vec::with_capacity(d);
    for j in 0..d {
        let column = left.slice(1, 0, 1);
        let column = &column / &column.slice(0, 0, 1).sqrt(); // (d − j + n, 1)
        columns.push(column.slice(0, d - j, n));
        if j + 1 < d {
            let rest = left.slice(0, 1, d - j - 1 + n).slice(1, 1, d - j - 1);
            let factor = column.slice(0, 1, d - j - 1);
            let below = column.slice(0, 1, d - j - 1 + n);
            left = &rest - &below.matmul_with(&factor, Transpose::RIGHT);
        }
    }
    Tensor::concat(&columns.iter().collect::<Vec<_>>(), 1)
}

/// The scalar in whose units the covariance of `centered` is computed: 1, except where a square could overflow, or, with
/// ε = 0, vanish. Then it is the largest entry.
fn unit_of(centered: &Tensor, epsilon: f64) -> Tensor {
    let centered = centered.detach();
    let largest = centered.abs().reshape([centered.array().len()]).max(0).reshape([]);
    let constant = |value| Tensor::full(centered.device(), [], centered.dtype(), value);
    let huge = largest.greater(&constant(1e9));
    let tiny = &constant(1e-9).greater(&largest) * &largest.greater(&constant(0.0));
    let outside = if epsilon > 0.0 { huge } else { &huge + &tiny };
    outside.select(&largest, &constant(1.0))
}

#[cfg(test)]
mod tests;
