//! Operations on rows that the losses share: shape checks, unit rows, constants of square matrices.

use tarrl_tensor::{Array, Tensor};

/// The floor of a row's norm before division, as PyTorch's `normalize`.
pub(crate) const NORM_FLOOR: f64 = 1e-12;

/// Rows of length one. A row of zeros stays zero; its gradient is finite but that of a division by [`NORM_FLOOR`], as
/// with PyTorch's losses: see [`Tensor::l2_normalize`].
pub(crate) fn unit(z: &Tensor) -> Tensor {
    z.l2_normalize(NORM_FLOOR)
}

/// `(n)`: the cosine of the angle between row `i` of `a` and row `i` of `b`, both `(n, d)`.
pub(crate) fn cosines(a: &Tensor, b: &Tensor) -> Tensor {
    (&unit(a) * &unit(b)).sum(1).reshape([a.shape()[0]])
}

/// The number of rows n of two tensors `(n, d)` of one shape.
#[track_caller]
pub(crate) fn pair(op: &str, a: &Tensor, b: &Tensor) -> usize {
    assert!(
        a.shape() == b.shape() && a.shape().rank() == 2 && a.shape()[0] > 0,
        "{op}: views of shapes {:?} and {:?}; both must be (n, d) with n > 0",
        a.shape(),
        b.shape()
    );
    a.shape()[0]
}

/// The number of rows n of at least two views `(n, d)` of one shape.
#[track_caller]
pub(crate) fn views(op: &str, views: &[&Tensor]) -> usize {
    assert!(views.len() > 1, "{op}: {} views; an image needs two to compare", views.len());
    for view in &views[1..] {
        pair(op, views[0], view);
    }
    views[0].shape()[0]
}

#[track_caller]
pub(crate) fn temperature(op: &str, temperature: f64) {
    assert!(
        temperature > 0.0 && temperature.is_finite(),
        "{op}: the temperature is {temperature}, not a positive number"
    );
}

/// `(m, m)`: `value` on the diagonal, else 0.
pub(crate) fn diagonal(like: &Tensor, m: usize, value: f64) -> Tensor {
    let places: Vec<u32> = (0..m).map(|i| (i * (m + 1)) as u32).collect();
    let places = Array::table(like.device(), [m], &places);
    Tensor::full(like.device(), [m], like.dtype(), value).scatter_add(0, &places, m * m).reshape([m, m])
}

/// `(m, m)`: on the diagonal a number that sends e^(S_ii − S_ij) to zero in any precision, else 0.
///
/// |S_ij| ≤ 1/τ, so that S_ii falls at least 1000 below every other entry; being finite it leaves no
/// ∞ − ∞ anywhere, at any temperature.
pub(crate) fn self_mask(like: &Tensor, m: usize, temperature: f64) -> Tensor {
    diagonal(like, m, -2.0 / temperature - 1000.0)
}

/// `(n)`: the numbers 0 … n − 1, as labels.
pub(crate) fn positions(like: &Tensor, n: usize) -> Array {
    Array::table(like.device(), [n], &(0..n as u32).collect::<Vec<_>>())
}

/// `(n)`: zeros, as labels.
pub(crate) fn zeros(like: &Tensor, n: usize) -> Array {
    Array::table(like.device(), [n], &vec![0u32; n])
}

/// The mean of scalars.
#[track_caller]
pub(crate) fn mean(losses: Vec<Tensor>) -> Tensor {
    assert!(!losses.is_empty(), "an objective without views");
    let sum = losses[1..].iter().fold(losses[0].clone(), |sum, loss| &sum + loss);
    if losses.len() == 1 { sum } else { sum.mul_scalar(1.0 / losses.len() as f64) }
}

#[cfg(test)]
mod tests {
    use crate::losses::nt_xent;
    use tarrl_tensor::{Tensor, cpu, grad};

    #[test]
    fn a_row_of_zeros_has_a_finite_loss_and_gradient() {
        let view = |rows: &[f32]| Tensor::new(&cpu(), [3, 2], rows).requires_grad();
        let (a, b) = (view(&[0.0, 0.0, 1.0, 0.5, -1.0, 2.0]), view(&[0.0, 0.0, 0.7, 0.4, -0.9, 2.0]));
        let loss = nt_xent(&a, &b, 0.5);
        assert!(loss.item().is_finite());
        for gradient in grad(&loss, &[&a, &b]) {
            let values = gradient.to_vec::<f32>();
            assert!(values.iter().all(|g| g.is_finite()), "{values:?}");
            assert!(values[2..].iter().all(|g| g.abs() < 1.0), "the other rows are not moved: {values:?}");
        }
    }
}
