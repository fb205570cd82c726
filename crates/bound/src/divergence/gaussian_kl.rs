//! KL divergence of diagonal Gaussian representations.

use tarrl_tensor::Tensor;

/// `KL(N(μ, s²) ‖ N(μ', t²))` of each sample, for encoders that give a mean and the logarithm of a deviation
/// for every coordinate: `clean` is `(μ, ln s)` and `attacked` is `(μ', ln t)`, all `(n, d)`, to `(n)`.
/// Differentiable in all four. Theorem C7 (docs/theory.md); with C2, any head and any loss with range `M` lose at
/// most `M √(KL / 2)`.
///
/// # Panics
/// If the shapes differ or are not `(n, d)`.
#[track_caller]
pub fn diagonal_gaussian_kl(clean: (&Tensor, &Tensor), attacked: (&Tensor, &Tensor)) -> Tensor {
    let n = super::reference::rows(clean.0, attacked.0);
    super::reference::rows(clean.0, clean.1);
    super::reference::rows(clean.0, attacked.1);
    let ratio = clean.1 - attacked.1; // ln(s/t)
    let moved = (attacked.0 - clean.0).square();
    let squares = &ratio.mul_scalar(2.0).exp() + &(&moved * &attacked.1.mul_scalar(-2.0).exp());
    let each = &squares.add_scalar(-1.0).mul_scalar(0.5) - &ratio;
    each.sum(1).reshape([n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theorems::stochastic::DiagonalPair;
    use tarrl_tensor::{cpu, grad};

    #[test]
    fn it_equals_the_scalar_divergence_of_each_pair() {
        let tensor = |v: &[f64]| Tensor::new(&cpu(), [2, 2], v);
        let (mu, s) = ([0.0, 1.0, -1.0, 0.5], [1.0, 0.5, 2.0, 1.0]);
        let (nu, t) = ([1.0, 1.0, -1.5, 0.5], [2.0, 0.5, 1.0, 1.5]);
        let log = |v: &[f64; 4]| tensor(&v.map(f64::ln));
        let moved = tensor(&nu).requires_grad();
        let found = diagonal_gaussian_kl((&tensor(&mu), &log(&s)), (&moved, &log(&t)));
        for i in 0..2 {
            let at = 2 * i..2 * i + 2;
            let shift: Vec<f64> = at.clone().map(|i| nu[i] - mu[i]).collect();
            let golden = DiagonalPair { shift: &shift, from: &s[at.clone()], to: &t[at] }.kl();
            assert!((found.to_vec::<f64>()[i] - golden).abs() < 1e-14);
        }
        // ∂KL/∂μ' = (μ' − μ)/t².
        let slope = grad(&found.sum_all(), &[&moved]).remove(0).to_vec::<f64>();
        assert!((slope[0] - 0.25).abs() < 1e-15 && (slope[2] + 0.5).abs() < 1e-15);
    }
}
