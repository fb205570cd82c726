//! Gaussian input noise for training: the trace of the covariance of a representation, Theorem G7 (docs/theory.md).
//!
//! Kept as public API for training under noise; no method of the study uses it yet.

use tarrl_tensor::{Key, Random, Tensor};

/// `x` `(n, …)` plus normal noise of deviation `sigma`, drawn at one key per sample. The noise is a constant.
///
/// # Panics
/// If there are not as many keys as samples.
#[track_caller]
pub fn with_noise(x: &Tensor, sigma: f64, keys: &[Key]) -> Tensor {
    let shape = *x.shape();
    assert_eq!(keys.len(), shape[0], "with_noise: {} keys for {} samples", keys.len(), shape[0]);
    x + &Tensor::random(x.device(), Random::Normal, keys, &shape[1..], x.dtype()).mul_scalar(sigma)
}

/// An unbiased estimate, for each sample `(n)`, of the trace of the covariance of `f(x + σξ)`, from the
/// representations `(n, d)` at two draws of the noise: half of their squared distance. Differentiable; small
/// where a smoothing certificate is, since the trace bounds the largest eigenvalue.
///
/// # Panics
/// If the shapes differ or are not `(n, d)`.
#[track_caller]
pub fn trace_under_noise(first: &Tensor, second: &Tensor) -> Tensor {
    assert!(
        first.shape() == second.shape() && first.shape().rank() == 2,
        "trace_under_noise: representations of shapes {:?} and {:?}",
        first.shape(),
        second.shape()
    );
    (first - second).square().sum(1).reshape([first.shape()[0]]).mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{DType, cpu};

    /// For `f(x) = x W` the covariance is `σ² WᵀW`.
    #[test]
    fn the_trace_of_a_linear_encoder_under_noise() {
        let n = 4000;
        let w = Tensor::new(&cpu(), [2, 3], &[1.0, -1.0, 0.5, 2.0, 0.0, 1.0]);
        let x = Tensor::full(&cpu(), [n, 2], DType::F64, 0.5);
        let keys = |name: &str| (0..n).map(|i| Key::new(1).fold(name).fold(i)).collect::<Vec<_>>();
        let draw = |name: &str| with_noise(&x, 0.3, &keys(name)).matmul(&w);
        let found = trace_under_noise(&draw("a"), &draw("b")).mean_all().item();
        let exact = 0.09 * w.square().sum_all().item();
        // The estimate of one pair has a relative deviation of at most √2, the mean of 4000 of 2.2 %; four of these.
        assert!((found / exact - 1.0).abs() < 0.09, "{found} but {exact}");
    }
}
