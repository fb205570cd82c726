//! ACL-AIR: invariance regularizers across a batch, as in their authors' code (Xu et al. 2023).

use crate::rows;
use tarrl_tensor::Tensor;

/// The standard term (SIR) of two views and their unaugmented image: a scalar (Xu et al. 2023, as coded).
///
/// All of `views` and `image` are `(n, d)` and receive gradient; rows are normalized. With `p_i` the softmax *over the
/// batch* of the n similarities `cos(view_1, image)_i/τ` and `q` that of the other view, it is
/// `Σ_i q_i (ln q_i − p_i)`. The divergence of the paper would have `ln p_i` there. Its effect is to push the similarities
/// of a view and its image towards each other across the batch.
///
/// # Panics
/// If the shapes differ or τ is not positive.
#[track_caller]
pub fn invariance(views: [&Tensor; 2], image: &Tensor, temperature: f64) -> Tensor {
    let [p, q] = views.map(|view| over_batch(view, image, temperature));
    against(&p, &q)
}

/// The adversarial term (AIR): as [`invariance`] with the product of two distributions over the batch, of the
/// similarities between attacked view and image, and between attacked view and view (Xu et al. 2023, as coded): a scalar.
///
/// `adversarial[v]` is the attacked `views[v]`; all `(n, d)`, all receive gradient. The products are not normalized
/// again.
///
/// # Panics
/// If the shapes differ or τ is not positive.
#[track_caller]
pub fn adversarial_invariance(
    adversarial: [&Tensor; 2],
    views: [&Tensor; 2],
    image: &Tensor,
    temperature: f64,
) -> Tensor {
    let product = |v: usize| {
        let logs = [image, views[v]].map(|other| over_batch(adversarial[v], other, temperature));
        &logs[0] + &logs[1]
    };
    against(&product(0), &product(1))
}

/// `(1, n)`: the logarithm of the softmax over the batch of the similarities of rows.
#[track_caller]
fn over_batch(a: &Tensor, b: &Tensor, temperature: f64) -> Tensor {
    rows::temperature("invariance", temperature);
    let n = rows::pair("invariance", a, b);
    rows::cosines(a, b).mul_scalar(1.0 / temperature).reshape([1, n]).log_softmax()
}

/// `Σ q (ln q − p)` of logarithms.
fn against(p: &Tensor, q: &Tensor) -> Tensor {
    (&q.exp() * &(q - &p.exp())).sum_all()
}

#[cfg(test)]
mod tests;
