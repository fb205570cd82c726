//! Custom differentiable ops computed on the host: arcsine and the inverse Cholesky factor.

use crate::numerics::linalg::inverse_factor;
use tarrl_tensor::{DType, Op, Saved, Tensor, Transpose, math};

/// The inverse of the sine, of elements in `[−1, 1]`.
pub(crate) fn arcsine(x: &Tensor) -> Tensor {
    let values: Vec<f64> = x.array().to_f64().into_iter().map(math::asin).collect();
    let y = host(x, &values);
    let saved = Saved::new(x);
    Tensor::record(Op::Custom("arcsine"), y.array().clone(), &[x], move |p| {
        // At the ends the slope is infinite; a floor keeps it finite.
        let square = p.get(&saved).square().neg().add_scalar(1.0);
        let floor = Tensor::full(square.device(), *square.shape(), square.dtype(), 1e-12);
        vec![Some(p.dy() / &square.maximum(&floor).sqrt())]
    })
}

/// The lower triangular `W` with `W S Wᵀ = 1` of a symmetric positive definite `S` `(d, d)`; NaN if it is not
/// positive definite.
///
/// From `W S Wᵀ = 1` a change `dS` gives `dW = −Φ(W dS Wᵀ) W`, where Φ keeps the lower triangle and half of the
/// diagonal; the adjoint of that is `−Wᵀ Φ(dW Wᵀ) W`, made symmetric.
pub(crate) fn whitening_factor(s: &Tensor) -> Tensor {
    let d = s.shape()[0];
    let factor = inverse_factor(&s.array().to_f64(), d).unwrap_or_else(|| vec![f64::NAN; d * d]);
    let w = host(s, &factor);
    let kept: Vec<f64> = (0..d * d)
        .map(|i| match (i / d).cmp(&(i % d)) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .collect();
    let kept = host(s, &kept);
    Tensor::record_keeping_output(Op::Custom("whitening-factor"), w.array().clone(), &[s], move |p| {
        let w = p.y();
        let inner = &p.dy().matmul_with(&w, Transpose { a: false, b: true }) * &kept;
        let ds = w.matmul_with(&inner.matmul(&w), Transpose { a: true, b: false });
        vec![Some((&ds + &ds.t()).mul_scalar(-0.5))]
    })
}

/// A constant of the shape, type and device of `like`.
fn host(like: &Tensor, values: &[f64]) -> Tensor {
    let wide = Tensor::new(like.device(), *like.shape(), values);
    if like.dtype() == DType::F64 { wide } else { wide.cast(like.dtype()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Key, cpu, grad, grad_recorded};

    #[test]
    fn first_and_second_derivatives_of_the_arcsine() {
        let x = Tensor::new(&cpu(), [3], &[-0.9, 0.0, 0.6]).requires_grad();
        let y = arcsine(&x);
        let first = grad_recorded(&y.sum_all(), &[&x]).remove(0);
        let second = grad(&first.sum_all(), &[&x]).remove(0);
        for (i, x) in [-0.9f64, 0.0, 0.6].into_iter().enumerate() {
            assert_eq!(y.to_vec::<f64>()[i], x.asin());
            let rest = 1.0 - x * x;
            assert!((first.to_vec::<f64>()[i] * rest.sqrt() - 1.0).abs() < 1e-14);
            assert!((second.to_vec::<f64>()[i] - x * rest.powf(-1.5)).abs() < 1e-12);
        }
    }

    /// First and second derivatives along random symmetric directions, against central differences.
    #[test]
    fn derivatives_of_the_whitening_factor() {
        let mut random = Key::new(1).stream();
        let d = 3;
        let mut symmetric = |scale: f64, shift: f64| {
            let a: Vec<f64> = (0..d * d).map(|_| scale * random.normal()).collect();
            let entry = |i: usize| a[i] + a[i % d * d + i / d] + if i / d == i % d { shift } else { 0.0 };
            Tensor::new(&cpu(), [d, d], &(0..d * d).map(entry).collect::<Vec<_>>())
        };
        let (s, direction, weight) = (symmetric(0.3, 3.0), symmetric(1.0, 0.0), symmetric(1.0, 0.5));
        let value = |s: &Tensor| (&whitening_factor(s).tanh() * &weight).sum_all();
        let slope = |s: &Tensor| {
            let s = s.requires_grad();
            let first = grad_recorded(&value(&s), &[&s]).remove(0);
            let along = (&first * &direction).sum_all();
            (along.item(), (&grad(&along, &[&s]).remove(0) * &direction).sum_all().item())
        };
        let at = |h: f64| &s + &direction.mul_scalar(h);
        let (first, second) = slope(&s);
        let h = 1e-5;
        let numeric = (value(&at(h)).item() - value(&at(-h)).item()) / (2.0 * h);
        assert!((first - numeric).abs() < 1e-8 * (1.0 + first.abs()), "{first} but {numeric}");
        let numeric = (slope(&at(h)).0 - slope(&at(-h)).0) / (2.0 * h);
        assert!((second - numeric).abs() < 1e-8 * (1.0 + second.abs()), "{second} but {numeric}");
        let w = whitening_factor(&s);
        let unit = w.matmul(&s).matmul(&w.t()).to_vec::<f64>();
        assert!((0..d * d).all(|i| (unit[i] - f64::from(u8::from(i / d == i % d))).abs() < 1e-14));
    }

    #[test]
    fn a_singular_matrix_has_a_nan_factor() {
        let singular = Tensor::new(&cpu(), [2, 2], &[1.0f32, 1.0, 1.0, 1.0]);
        assert!(whitening_factor(&singular).to_vec::<f32>().iter().all(|v| v.is_nan()));
    }
}
