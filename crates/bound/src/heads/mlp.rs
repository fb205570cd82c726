//! MLP heads: softmax classifiers with one hidden ReLU layer, and Lipschitz constants of their logit gaps.

use super::linear::LinearHead;
use super::softmax::SoftmaxHead;
use crate::numerics::LpNorm;
use crate::numerics::linalg::{dot, spectral_norm};

/// `logits = V₂ relu(V₁ z + c₁) + c₂` under the cross-entropy.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpHead {
    /// `V₁` `(h, d)`, row-major.
    hidden: Vec<f64>,
    /// `c₁` `(h)`.
    hidden_bias: Vec<f64>,
    /// `V₂` and `c₂`: `k` classes on `h` units.
    output: LinearHead,
    d: usize,
    /// `‖V₁‖₂`
    spectral: f64,
}

impl MlpHead {
    /// The head on `d` features with the hidden layer `hidden` `(h, d)`, row-major, `hidden_bias` `(h)`, and
    /// the linear map `output` on its `h` units.
    ///
    /// # Panics
    /// If the lengths do not fit or an element is not finite.
    #[track_caller]
    pub fn new(d: usize, hidden: Vec<f64>, hidden_bias: Vec<f64>, output: LinearHead) -> Self {
        let h = output.features();
        assert!(
            h.checked_mul(d) == Some(hidden.len()) && hidden_bias.len() == h,
            "MlpHead: {} weights and {} biases for {h} units on {d} features",
            hidden.len(),
            hidden_bias.len()
        );
        assert!(
            hidden.iter().chain(&hidden_bias).all(|v| v.is_finite()),
            "MlpHead: an element is not finite"
        );
        let spectral = spectral_norm(&hidden, h, d);
        MlpHead { hidden, hidden_bias, output, d, spectral }
    }

    /// The logits `(k)` of one representation `(d)`.
    ///
    /// # Panics
    /// If `z` has not `d` elements.
    #[track_caller]
    pub fn logits(&self, z: &[f64]) -> Vec<f64> {
        self.output.logits(&self.units(z))
    }

    /// Three upper bounds of the l2 Lipschitz constant of `a · relu(V₁ z + c₁)`, for `a` `(h)`: Theorem B1
    /// (docs/theory.md). In order `‖a‖ ‖V₁‖₂`, `Σ_k |a_k| ‖V₁ₖ‖` over the rows, and
    /// `(‖V₁ᵀa‖ + ‖a‖ ‖V₁‖₂) / 2`, which is never above the first.
    ///
    /// # Panics
    /// If `a` has not `h` elements.
    #[track_caller]
    pub fn lipschitz_constants(&self, a: &[f64]) -> [f64; 3] {
        assert_eq!(a.len(), self.hidden_bias.len(), "MlpHead: a direction of {} units", a.len());
        let rows = self.hidden.chunks(self.d.max(1));
        let by_rows = a.iter().zip(rows.clone()).map(|(a, row)| a.abs() * LpNorm::L2.of(row)).sum();
        let mut pulled = vec![0.0; self.d]; // V₁ᵀ a
        for (a, row) in a.iter().zip(rows) {
            pulled.iter_mut().zip(row).for_each(|(sum, v)| *sum += a * v);
        }
        let product = LpNorm::L2.of(a) * self.spectral;
        [product, by_rows, 0.5 * (LpNorm::L2.of(&pulled) + product)]
    }

    /// The Lipschitz constant of each gap `(k)`, the least of the three bounds; zero at `label`.
    ///
    /// # Panics
    /// If the label is out of range.
    #[track_caller]
    pub fn gap_constants(&self, label: usize) -> Vec<f64> {
        let constant = |j| {
            let [_, by_rows, halved] = self.lipschitz_constants(&self.output.gap_vector(j, label));
            by_rows.min(halved)
        };
        (0..self.output.classes()).map(constant).collect()
    }

    fn units(&self, z: &[f64]) -> Vec<f64> {
        assert_eq!(z.len(), self.d, "MlpHead: a representation of {} on {} features", z.len(), self.d);
        let rows = self.hidden.chunks(self.d.max(1));
        let unit = |(row, c): (&[f64], &f64)| {
            let h = dot(row, z) + c;
            // `f64::max` would turn a NaN into zero.
            if h < 0.0 { 0.0 } else { h }
        };
        rows.zip(&self.hidden_bias).map(unit).collect()
    }
}

impl SoftmaxHead for MlpHead {
    fn classes(&self) -> usize {
        self.output.classes()
    }

    fn features(&self) -> usize {
        self.d
    }

    fn gaps(&self, z: &[f64], label: usize) -> Vec<f64> {
        self.output.gaps(&self.units(z), label)
    }

    fn radius_supports(&self, _: &[f64], label: usize, radius: f64) -> Vec<f64> {
        self.gap_constants(label).iter().map(|l| l * radius).collect()
    }

    fn gap_rounding(&self, z: &[f64], label: usize, radius: f64) -> Vec<f64> {
        let rows = self.hidden.chunks(self.d.max(1)).zip(&self.hidden_bias);
        let reach = |(row, c): (&[f64], &f64)| {
            let terms = row.iter().zip(z).map(|(v, z)| v.abs() * (z.abs() + radius));
            terms.sum::<f64>() + c.abs()
        };
        let reach: Vec<f64> = rows.map(reach).collect();
        self.output.rounding_of_sums(&reach, label, self.d + 8)
    }
}
