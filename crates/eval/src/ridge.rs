//! Ridge regression: the linear head for numbers.

use crate::features::rows;
use crate::fit_error::{FitError, check_finite, check_weights};
use crate::spectrum::Spectrum;
use crate::split::stratified;
use crate::standardize::Standardizer;
use tarrl_tensor::{DType, Key, Tensor, Transpose};

/// A linear map from features `(d)` to targets `(m)`: `W x + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    /// `W`, `(m, d)` row-major, on the features as they are.
    pub weight: Vec<f64>,
    /// `b (m)`.
    pub bias: Vec<f64>,
    /// The weight of the squared norm that was chosen.
    pub l2: f64,
}

/// Fits `mean ‖y − W x − b‖² + l2 ‖W‖²` on standardized features `(n, d)` with targets `(n, m)`.
///
/// The weight is the one of `l2` with the smallest error on a random tenth of the training set; the head
/// is then fitted on all of it, and the standardization is folded into it. Each fit is exact: one
/// eigendecomposition serves every weight.
///
/// # Errors
/// If a feature or target is not finite, or a weight is not positive.
///
/// # Panics
/// If the shapes do not fit, there are fewer than two samples, or the list of weights is empty.
#[track_caller]
pub fn ridge(features: &Tensor, targets: &Tensor, l2: &[f64], key: Key) -> Result<Ridge, FitError> {
    let n = features.shape()[0];
    assert!(
        features.shape().rank() == 2 && targets.shape().rank() == 2 && targets.shape()[0] == n && n >= 2,
        "ridge: features {:?} and targets {:?}",
        features.shape(),
        targets.shape()
    );
    assert!(!l2.is_empty(), "ridge: no weight of the squared norm to choose from");
    check_weights(l2, false)?;
    check_finite(features)?;
    check_finite(targets)?;
    let best = if l2.len() == 1 { l2[0] } else { choose(features, targets, l2, key)? };
    let normal = Normal::of(features, targets);
    let (weight, bias) = normal.standard.fold(&normal.solve(best));
    Ok(Ridge { weight, bias, l2: best })
}

fn choose(features: &Tensor, targets: &Tensor, l2: &[f64], key: Key) -> Result<f64, FitError> {
    let (fit, held) = stratified(&vec![0; features.shape()[0]], 0.1, key)?;
    let normal = Normal::of(&rows(features, &fit), &rows(targets, &fit));
    let design = normal.standard.design(&rows(features, &held));
    let truth = rows(targets, &held).cast(DType::F64);
    let width = [design.shape()[1], truth.shape()[1]];
    let error = |w: f64| {
        let predicted = design.matmul(&Tensor::new(design.device(), width, &normal.solve(w)));
        (&predicted - &truth).square().mean_all().item()
    };
    let errors = l2.iter().map(|&w| (w, error(w)));
    Ok(errors.min_by(|a, b| a.1.total_cmp(&b.1).then(b.0.total_cmp(&a.0))).map_or(l2[0], |best| best.0))
}

/// The normal equations of standardized features and centered targets.
struct Normal {
    standard: Standardizer,
    spectrum: Spectrum,
    /// `Xᵀ Y (d, m)`.
    moments: Vec<f64>,
    /// The mean target `(m)`: the intercept, since the features have mean zero.
    mean: Vec<f64>,
    n: usize,
}

impl Normal {
    fn of(features: &Tensor, targets: &Tensor) -> Normal {
        let standard = Standardizer::of(features);
        let x = standard.design(features).slice(1, 0, features.shape()[1]);
        let y = targets.cast(DType::F64);
        let mean = y.mean(0);
        let moments = x.matmul_with(&(&y - &mean), Transpose { a: true, b: false });
        Normal {
            standard,
            spectrum: Spectrum::of_gram(&x),
            moments: moments.to_vec(),
            mean: mean.to_vec(),
            n: x.shape()[0],
        }
    }

    /// Coefficients `(d + 1, m)`: `Σᵢ vᵢ (vᵢᵀ Xᵀ Y) / (λᵢ + n·l2)`, then the intercept.
    fn solve(&self, l2: f64) -> Vec<f64> {
        let m = self.mean.len();
        let mut out = vec![0.0; self.moments.len()];
        for (value, vector) in self.spectrum.values.iter().zip(&self.spectrum.vectors) {
            for c in 0..m {
                let along: f64 = vector.iter().enumerate().map(|(j, v)| v * self.moments[j * m + c]).sum();
                let share = along / (value + self.n as f64 * l2);
                vector.iter().enumerate().for_each(|(j, v)| out[j * m + c] += share * v);
            }
        }
        out.extend(&self.mean);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::Cpu;

    fn sample(n: usize, noise: f64) -> (Tensor, Tensor) {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let mut s = Key::new(9).stream();
        let x: Vec<f64> = (0..n * 3).map(|_| s.normal() * 2.0 + 1.0).collect();
        let y: Vec<f64> = x
            .chunks(3)
            .flat_map(|r| [r[0] - 2.0 * r[1] + 3.0, 0.5 * r[2] - 1.0].map(|v| v + noise * s.normal()))
            .collect();
        (Tensor::new(&device, [n, 3], &x), Tensor::new(&device, [n, 2], &y))
    }

    #[test]
    fn ridge_recovers_a_linear_map() {
        let (x, y) = sample(50, 0.0);
        let head = ridge(&x, &y, &[1e-12, 1.0], Key::new(1)).unwrap();
        let want = [1.0, -2.0, 0.0, 0.0, 0.0, 0.5];
        assert!(head.weight.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-8), "{head:?}");
        assert!((head.bias[0] - 3.0).abs() < 1e-8 && (head.bias[1] + 1.0).abs() < 1e-8, "{head:?}");
    }

    #[test]
    fn weights_that_are_not_positive_and_numbers_that_are_not_finite_are_refused() {
        let (x, y) = sample(5, 1.0);
        for wrong in [0.0, -1.0, f64::NAN] {
            assert!(matches!(ridge(&x, &y, &[wrong], Key::new(1)), Err(FitError::Setting { .. })), "{wrong}");
        }
        let broken = y.mul_scalar(f64::INFINITY);
        assert_eq!(ridge(&x, &broken, &[1.0], Key::new(1)), Err(FitError::NotFinite { sample: 0 }));
    }

    /// At the minimum the gradient of the stated objective is zero, checked in the standardized features.
    #[test]
    fn the_stated_objective_is_minimal() {
        let ((x, y), l2) = (sample(40, 1.0), 0.3);
        let normal = Normal::of(&x, &y);
        let theta = Tensor::new(x.device(), [4, 2], &normal.solve(l2));
        let design = normal.standard.design(&x);
        let residual = &design.matmul(&theta) - &y;
        let slope = design.matmul_with(&residual, Transpose { a: true, b: false }).mul_scalar(1.0 / 40.0);
        let (slope, theta) = (slope.to_vec::<f64>(), theta.to_vec::<f64>());
        for i in 0..8 {
            let penalty = if i < 6 { l2 * theta[i] } else { 0.0 };
            assert!((slope[i] + penalty).abs() < 1e-12, "{slope:?} {theta:?}");
        }
    }
}
