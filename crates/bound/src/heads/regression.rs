//! Regression heads: predictions of real numbers and their adversarial loss. Theorem B3 (docs/theory.md).

use super::scalar_loss::ScalarLoss;
use crate::numerics::LpNorm;
use crate::numerics::linalg::{dot, gamma, spectral_norm};

/// Predictions `W z + b` of `o` numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct RegressionHead {
    weight: Vec<f64>,
    bias: Vec<f64>,
    d: usize,
    /// `‖W‖₂`
    spectral: f64,
}

impl RegressionHead {
    /// The head of as many outputs as `bias` has, on `d` features; `weight` is `(o, d)` row-major.
    ///
    /// # Panics
    /// If the lengths do not fit or an element is not finite.
    #[track_caller]
    pub fn new(d: usize, weight: Vec<f64>, bias: Vec<f64>) -> Self {
        assert!(
            bias.len().checked_mul(d) == Some(weight.len()),
            "RegressionHead: {} weights for {} outputs on {d} features",
            weight.len(),
            bias.len()
        );
        assert!(
            weight.iter().chain(&bias).all(|v| v.is_finite()),
            "RegressionHead: an element is not finite"
        );
        let spectral = spectral_norm(&weight, bias.len(), d);
        RegressionHead { weight, bias, d, spectral }
    }

    /// The predictions `(o)` of one representation `(d)`.
    ///
    /// # Panics
    /// If `z` has not `d` elements.
    #[track_caller]
    pub fn predict(&self, z: &[f64]) -> Vec<f64> {
        assert_eq!(z.len(), self.d, "RegressionHead: a representation of {} on {} features", z.len(), self.d);
        self.weight.chunks(self.d.max(1)).zip(&self.bias).map(|(row, b)| dot(row, z) + b).collect()
    }

    /// Upper bounds `(o)` of what rounding adds to the change of each prediction, computed in f64 at `z` and at any point within
    /// `radius` of it: Theorem R1 (docs/certificates.md).
    ///
    /// # Panics
    /// If `z` has not `d` elements.
    #[track_caller]
    pub fn rounding(&self, z: &[f64], radius: f64) -> Vec<f64> {
        assert_eq!(z.len(), self.d, "RegressionHead: a representation of {} on {} features", z.len(), self.d);
        let of_row = |(row, b): (&[f64], &f64)| {
            let terms = row.iter().zip(z).map(|(w, z)| w.abs() * (z.abs() + radius));
            2.02 * gamma(self.d + 8) * (terms.sum::<f64>() + b.abs()) + f64::MIN_POSITIVE
        };
        self.weight.chunks(self.d.max(1)).zip(&self.bias).map(of_row).collect()
    }

    /// `‖W‖₂`: how far a unit displacement can move the vector of predictions.
    pub fn constant(&self) -> f64 {
        self.spectral
    }

    /// `‖w_o‖₂` `(o)`: how far a unit displacement can move each prediction.
    pub fn output_constants(&self) -> Vec<f64> {
        self.weight.chunks(self.d.max(1)).map(|row| LpNorm::L2.of(row)).collect()
    }

    /// The largest `‖prediction − target‖²` within `radius` of `z` is at most this.
    ///
    /// # Panics
    /// If a shape does not fit.
    #[track_caller]
    pub fn squared_bound(&self, z: &[f64], target: &[f64], radius: f64) -> f64 {
        squared_bound(LpNorm::L2.distance(&self.predict(z), target), self.spectral * radius)
    }

    /// The largest sum of `loss` over the outputs within `radius` of `z` is at most this; `target` `(o)` as
    /// [`ScalarLoss::at`] reads it. With [`ScalarLoss::Logistic`] this is the multi-label loss.
    ///
    /// # Panics
    /// If a shape does not fit.
    #[track_caller]
    pub fn scalar_bound(&self, loss: ScalarLoss, z: &[f64], target: &[f64], radius: f64) -> f64 {
        let predicted = self.predict(z);
        assert_eq!(
            predicted.len(),
            target.len(),
            "RegressionHead: {} predictions, {} targets",
            predicted.len(),
            target.len()
        );
        let worst = |((&p, &t), constant): ((&f64, &f64), f64)| loss.bound(loss.at(p, t), constant * radius);
        predicted.iter().zip(target).zip(self.output_constants()).map(worst).sum()
    }
}

/// `(‖e‖ + shift)²`: the largest squared error if the prediction moves by at most `shift`.
///
/// Attained for one output over a full interval. For any `t > 0` it is at most
/// `(1 + t) ‖e‖² + (1 + 1/t) shift²`, where the two parts are separate.
pub fn squared_bound(error: f64, shift: f64) -> f64 {
    (error.abs() + shift).powi(2)
}

/// `(√(E e²) + C √(E r²))²`: the mean squared adversarial error is at most this, of the mean squared clean
/// error, the constant of the head and the mean *square* of the displacement (Minkowski's inequality).
pub fn mean_squared_bound(mean_square_error: f64, constant: f64, mean_square_radius: f64) -> f64 {
    (mean_square_error.sqrt() + constant * mean_square_radius.sqrt()).powi(2)
}
