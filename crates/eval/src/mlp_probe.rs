//! MLP probe: a classifier with one hidden layer of ReLUs on cached features.

use crate::fit_error::FitError;
use crate::lbfgs::{Lbfgs, minimize};
use crate::probe::check_training;
use crate::standardize::Standardizer;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Array, DType, Key, Tensor, grad};

/// How a classifier with a hidden layer is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Units of the hidden layer.
    pub hidden: usize,
    /// The weight of the squared norm of both matrices, in units of the mean cross-entropy.
    pub l2: f64,
    /// Steps of L-BFGS at most: the problem is not convex, and they are where fitting stops.
    pub steps: usize,
}

impl Default for MlpConfig {
    /// 64 units, a weight of 0.001, a hundred steps.
    fn default() -> Self {
        MlpConfig { hidden: 64, l2: 1e-3, steps: 100 }
    }
}

/// A fitted classifier; its functions are differentiable.
#[derive(Clone, Debug)]
pub(crate) struct MlpProbe {
    /// `(d, h)` and `(1, h)`, on features as they are.
    hidden: [Tensor; 2],
    /// `(h, k)` and `(1, k)`
    output: [Tensor; 2],
}

impl MlpProbe {
    /// Minimizes `mean cross-entropy + l2/2 (‖V₁‖² + ‖V₂‖²)` on standardized `features (n, d)` with `labels (n)`, by full
    /// batches in f64 from random weights of `key` (He et al. 2015); the same bits for any number of threads.
    ///
    /// # Errors
    /// If there are fewer than two classes, a feature is not finite, or a setting is out of its range.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub(crate) fn fit(
        features: &Tensor,
        labels: &[u32],
        classes: usize,
        config: &MlpConfig,
        key: Key,
    ) -> Result<Self, FitError> {
        check_training(features, labels, classes)?;
        let MlpConfig { hidden: h, l2, steps } = *config;
        if h == 0 {
            return Err(FitError::Setting { field: "hidden", value: 0.0, range: "it must be at least 1" });
        }
        if !(l2 >= 0.0 && l2.is_finite()) {
            return Err(FitError::Setting {
                field: "l2",
                value: l2,
                range: "it must be finite and not negative",
            });
        }
        let standard = Standardizer::of(features);
        let design = standard.design(features);
        let (device, d) = (features.device(), features.shape()[1]);
        let labels = Array::new(device, [labels.len()], labels);
        let shapes = [[d + 1, h], [h + 1, classes]];
        let first = shapes[0][0] * h;
        let ones = Tensor::full(device, [design.shape()[0], 1], DType::F64, 1.0);
        let mut objective = |theta: &[f64]| {
            let layer = |i: usize, part: &[f64]| Tensor::new(device, shapes[i], part).requires_grad();
            let (v, w) = (layer(0, &theta[..first]), layer(1, &theta[first..]));
            let units = Tensor::concat(&[&design.matmul(&v).relu(), &ones], 1);
            let loss = units.matmul(&w).cross_entropy(&labels).mean_all();
            let mut gradient: Vec<f64> = Vec::with_capacity(theta.len());
            grad(&loss, &[&v, &w]).iter().for_each(|g| gradient.extend(g.to_vec::<f64>()));
            let mut penalty = 0.0;
            // The last row of either matrix is the bias, which is not penalized.
            for range in [0..d * h, first..first + h * classes] {
                for i in range {
                    penalty += theta[i] * theta[i];
                    gradient[i] += l2 * theta[i];
                }
            }
            (loss.item() + 0.5 * l2 * penalty, gradient)
        };
        let mut stream = key.fold("mlp probe").stream();
        let mut start = vec![0.0; first + shapes[1][0] * classes];
        start[..d * h].iter_mut().for_each(|v| *v = stream.normal() * (2.0 / d as f64).sqrt());
        start[first..first + h * classes]
            .iter_mut()
            .for_each(|v| *v = stream.normal() * (2.0 / h as f64).sqrt());
        let solver = Lbfgs { max_iterations: steps, ..Lbfgs::default() };
        let theta = minimize(&mut objective, start, &solver).point;

        let (weight, bias) = standard.fold(&theta[..first]);
        let tensor =
            |shape: [usize; 2], values: &[f64]| Tensor::new(device, shape, values).cast(features.dtype());
        let (last, output_bias) = theta[first..].split_at(h * classes);
        Ok(MlpProbe {
            hidden: [tensor([h, d], &weight).t(), tensor([1, h], &bias)],
            output: [tensor([h, classes], last), tensor([1, classes], output_bias)],
        })
    }

    /// Logits `(m, k)` of representations `(m, d)`.
    #[track_caller]
    pub(crate) fn logits(&self, z: &Tensor) -> Tensor {
        let [[v, c], [w, b]] = [&self.hidden, &self.output];
        &(&z.matmul(v) + c).relu().matmul(w) + b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::Cpu;

    /// The four corners of a square, opposite ones alike, twenty of each with noise: no linear head is right on more than
    /// three quarters.
    fn corners(threads: usize) -> (Tensor, Vec<u32>) {
        let device = Cpu { threads, ..Cpu::default() }.open();
        let mut s = Key::new(5).stream();
        let labels: Vec<u32> = (0..80).map(|i| u32::from(i % 4 == 1 || i % 4 == 2)).collect();
        let corner = |i: usize| [(i % 4 / 2) as f64, (i % 2) as f64];
        let x: Vec<f32> = (0..80).flat_map(corner).map(|v| (5.0 + v + 0.1 * s.normal()) as f32).collect();
        (Tensor::new(&device, [80, 2], &x), labels)
    }

    #[test]
    fn opposite_corners_are_separated() {
        let (x, labels) = corners(1);
        let probe =
            MlpProbe::fit(&x, &labels, 2, &MlpConfig { hidden: 8, ..MlpConfig::default() }, Key::new(1));
        let found = probe.unwrap().logits(&x).argmax(1).to_vec::<u32>();
        assert_eq!(found, labels);
    }

    #[test]
    fn threads_change_no_bit() {
        let fit = |threads| {
            let (x, labels) = corners(threads);
            let probe = MlpProbe::fit(&x, &labels, 2, &MlpConfig::default(), Key::new(1)).unwrap();
            probe.logits(&x).to_vec::<f32>()
        };
        assert!(fit(1) == fit(3));
    }

    #[test]
    fn what_no_probe_can_be_fitted_to_is_refused() {
        let (x, labels) = corners(1);
        let fit = |classes, config: MlpConfig| {
            MlpProbe::fit(&x, &labels, classes, &config, Key::new(1)).unwrap_err()
        };
        let usual = MlpConfig::default();
        assert!(matches!(
            fit(2, MlpConfig { hidden: 0, ..usual }),
            FitError::Setting { field: "hidden", .. }
        ));
        for l2 in [-1.0, f64::NAN] {
            assert!(matches!(fit(2, MlpConfig { l2, ..usual }), FitError::Setting { field: "l2", .. }));
        }
    }
}
