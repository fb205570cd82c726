//! The normalised temperature-scaled cross-entropy of SimCLR.

use tarrl_tensor::{Array, Tensor, Transpose};

/// The floor of a row's norm before division, as PyTorch's `normalize`.
const NORM_FLOOR: f64 = 1e-12;

/// NT-Xent of two views `(n, d)` at `temperature` τ: a scalar, in nats (Chen et al. 2020, equation 1).
///
/// Row `i` of both views comes from one sample. Rows are normalised here, both views receive
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
    let n = check(z1, z2, temperature);
    let z = Tensor::concat(&[z1, z2], 0).l2_normalize(NORM_FLOOR); // (2n, d)
    // The temperature goes half into each factor, which then are one: their gradient is a single product.
    let z = z.mul_scalar(temperature.powf(-0.5));
    let similarities = z.matmul_with(&z, Transpose::RIGHT); // (2n, 2n)
    let masked = &similarities + &self_mask(&similarities, temperature);
    masked.cross_entropy(&other_view(&z, n)).mean_all()
}

/// `(2n, 2n)`: on the diagonal a number that sends e^(S_ii − S_ij) to zero in any precision, else 0.
///
/// |S_ij| ≤ 1/τ, so that S_ii falls at least 1000 below every other entry; being finite it leaves no
/// ∞ − ∞ anywhere, at any temperature.
fn self_mask(like: &Tensor, temperature: f64) -> Tensor {
    let rows = like.shape()[0];
    let diagonal: Vec<u32> = (0..rows).map(|i| (i * (rows + 1)) as u32).collect();
    let diagonal = Array::new(like.device(), [rows], &diagonal);
    let low = Tensor::full(like.device(), [rows], like.dtype(), -2.0 / temperature - 1000.0);
    low.scatter_add(0, &diagonal, rows * rows).reshape([rows, rows])
}

/// `(2n)`: for each row the position of the same sample's other view.
fn other_view(like: &Tensor, n: usize) -> Array {
    let positions: Vec<u32> = (0..2 * n).map(|i| ((i + n) % (2 * n)) as u32).collect();
    Array::new(like.device(), [2 * n], &positions)
}

#[track_caller]
fn check(z1: &Tensor, z2: &Tensor, temperature: f64) -> usize {
    assert!(
        z1.shape() == z2.shape() && z1.shape().rank() == 2 && z1.shape()[0] > 0,
        "nt_xent: views of shapes {:?} and {:?}; both must be (n, d) with n > 0",
        z1.shape(),
        z2.shape()
    );
    assert!(
        temperature > 0.0 && temperature.is_finite(),
        "nt_xent: the temperature is {temperature}, not a positive number"
    );
    z1.shape()[0]
}

#[cfg(test)]
mod tests;
