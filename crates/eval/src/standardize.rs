//! Feature standardization, and folding it back into a head.

use tarrl_tensor::{DType, Tensor};

/// The affine map that gives every feature of a sample mean 0 and standard deviation 1.
///
/// A feature that is constant over the sample is mapped to 0 and weighs nothing in a folded head.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standardizer {
    mean: Vec<f64>,
    /// One over the standard deviation; 0 for constants.
    scale: Vec<f64>,
}

impl Standardizer {
    /// The map for the rows of `features (n, d)`.
    pub(crate) fn of(features: &Tensor) -> Standardizer {
        let x = features.cast(DType::F64);
        let mean = x.mean(0);
        let deviation = (&x - &mean).square().mean(0).sqrt().to_vec::<f64>();
        let mean = mean.to_vec::<f64>();
        // Features are stored in f32: a spread below its rounding is the noise of a constant.
        let constant = |(m, s): (&f64, f64)| s <= f64::from(f32::EPSILON) * m.abs();
        let scale = mean.iter().zip(deviation).map(|pair| if constant(pair) { 0.0 } else { 1.0 / pair.1 });
        Standardizer { scale: scale.collect(), mean }
    }

    /// The standardized rows with a last column of ones, `(n, d + 1)` in f64.
    pub(crate) fn design(&self, features: &Tensor) -> Tensor {
        let (n, d) = (features.shape()[0], self.mean.len());
        let device = features.device();
        let mean = Tensor::new(device, [1, d], &self.mean);
        let scale = Tensor::new(device, [1, d], &self.scale);
        let ones = Tensor::full(device, [n, 1], DType::F64, 1.0);
        Tensor::concat(&[&(&(&features.cast(DType::F64) - &mean) * &scale), &ones], 1)
    }

    /// Weights `(k, d)`, row-major, and biases `(k)` on the features as they were, from coefficients
    /// `(d + 1, k)` on the design.
    pub(crate) fn fold(&self, coefficients: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let d = self.mean.len();
        let k = coefficients.len() / (d + 1);
        let mut weight = vec![0.0; k * d];
        let mut bias = coefficients[d * k..].to_vec();
        for class in 0..k {
            for j in 0..d {
                let w = coefficients[j * k + class] * self.scale[j];
                weight[class * d + j] = w;
                bias[class] -= w * self.mean[j];
            }
        }
        (weight, bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tarrl_tensor::{Cpu, Device};

    fn device() -> Device {
        Cpu { threads: 1, ..Cpu::default() }.open()
    }

    #[test]
    fn columns_have_mean_zero_and_deviation_one() {
        let x = Tensor::new(&device(), [3, 3], &[1.0f32, 7.1, 1e6, 2.0, 7.1, 1e6 + 1.0, 6.0, 7.1, 1e6 - 4.0]);
        let design = Standardizer::of(&x).design(&x).to_vec::<f64>();
        for (j, square) in [(0, 3.0), (1, 0.0), (2, 3.0)] {
            let column: Vec<f64> = (0..3).map(|i| design[i * 4 + j]).collect();
            assert!(column.iter().sum::<f64>().abs() < 1e-9, "{column:?}");
            assert!((column.iter().map(|v| v * v).sum::<f64>() - square).abs() < 1e-9, "{column:?}");
        }
        assert!([3, 7, 11].iter().all(|&i| design[i] == 1.0));
    }

    proptest! {
        /// A head on the design and its folded form are the same function of the features.
        #[test]
        fn a_folded_head_is_the_same_function(
            x in proptest::collection::vec(-5.0f32..5.0, 12), theta in proptest::collection::vec(-3.0f64..3.0, 8),
        ) {
            let x = Tensor::new(&device(), [4, 3], &x);
            let standard = Standardizer::of(&x);
            let want = standard.design(&x).matmul(&Tensor::new(x.device(), [4, 2], &theta)).to_vec::<f64>();
            let (weight, bias) = standard.fold(&theta);
            let rows = x.to_vec::<f32>();
            let largest = weight.iter().fold(1.0, |m: f64, w| m.max(w.abs()));
            for i in 0..4 {
                for c in 0..2 {
                    let got = bias[c] + (0..3).map(|j| weight[c * 3 + j] * f64::from(rows[i * 3 + j])).sum::<f64>();
                    // Sums of seven products of at most 5·largest, in another order.
                    prop_assert!((got - want[i * 2 + c]).abs() <= 35.0 * largest * 16.0 * f64::EPSILON);
                }
            }
        }
    }
}
