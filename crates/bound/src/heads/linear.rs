//! Linear softmax heads: loss, constants and bounds, in f64 on the host.

use super::softmax::SoftmaxHead;
use crate::numerics::LpNorm;
use crate::numerics::linalg::{dot, gamma, spectral_norm};
use crate::numerics::stable::largest;
use crate::theorems::gap;
use std::f64::consts::SQRT_2;
use std::sync::OnceLock;
use tarrl_tensor::Tensor;

/// A linear head `logits = W z + b` under the cross-entropy. A temperature is divided into both.
///
/// With the gaps `m_j = logit_j − logit_y` and the gap vectors `v_j = w_j − w_y`, the loss of label `y`
/// is `ln(1 + Σ_{j≠y} e^{m_j})`, and a displacement Δ of `z` moves gap `j` by `v_j · Δ`.
#[derive(Clone, Debug)]
pub struct LinearHead {
    weight: Vec<f64>,
    bias: Vec<f64>,
    k: usize,
    d: usize,
    /// The constant in each norm, cached at the first call: it takes all pairs of rows.
    constants: [OnceLock<f64>; 3],
}

/// Equality of the map; cached constants are not compared.
impl PartialEq for LinearHead {
    fn eq(&self, other: &Self) -> bool {
        (self.k, self.d, &self.weight, &self.bias) == (other.k, other.d, &other.weight, &other.bias)
    }
}

impl LinearHead {
    /// The head of `k` classes on `d` features; `weight` is `(k, d)` row-major, `bias` `(k)`.
    ///
    /// # Panics
    /// If the lengths do not fit, there are fewer than two classes, or an element is not finite.
    #[track_caller]
    pub fn new(k: usize, d: usize, weight: Vec<f64>, bias: Vec<f64>) -> Self {
        assert!(
            k >= 2 && k.checked_mul(d) == Some(weight.len()) && bias.len() == k,
            "LinearHead: {} weights and {} biases for {k} classes on {d} features",
            weight.len(),
            bias.len()
        );
        assert!(weight.iter().chain(&bias).all(|v| v.is_finite()), "LinearHead: an element is not finite");
        LinearHead { weight, bias, k, d, constants: Default::default() }
    }

    /// The head with the weight `(k, d)` and bias `(k)` of tensors.
    ///
    /// # Panics
    /// As [`new`](LinearHead::new).
    #[track_caller]
    pub fn from_tensors(weight: &Tensor, bias: &Tensor) -> Self {
        let &[k, d] = &weight.shape()[..] else {
            panic!("LinearHead: a weight of shape {:?}", weight.shape())
        };
        LinearHead::new(k, d, weight.array().to_f64(), bias.array().to_f64())
    }

    /// The head that picks the class with the nearest of `means` `(k, d)`, row-major: rows `2 μ_c`, biases
    /// `−‖μ_c‖²`, Theorem B4 (docs/theory.md).
    ///
    /// # Panics
    /// As [`new`](LinearHead::new).
    #[track_caller]
    pub fn nearest_centroid(k: usize, d: usize, means: &[f64]) -> Self {
        let bias = means.chunks(d.max(1)).map(|mean| -dot(mean, mean)).collect();
        LinearHead::new(k, d, means.iter().map(|v| 2.0 * v).collect(), bias)
    }

    /// The head whose logits are divided by `temperature`.
    ///
    /// # Panics
    /// If the temperature is not positive, or so small that an element overflows.
    #[track_caller]
    pub fn with_temperature(&self, temperature: f64) -> Self {
        assert!(temperature > 0.0, "LinearHead: a temperature of {temperature}");
        let divided = |v: &[f64]| v.iter().map(|v| v / temperature).collect();
        LinearHead::new(self.k, self.d, divided(&self.weight), divided(&self.bias))
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.k
    }

    /// The number of features.
    pub fn features(&self) -> usize {
        self.d
    }

    /// The weight `(k, d)`, row-major.
    pub fn weight(&self) -> &[f64] {
        &self.weight
    }

    /// The bias `(k)`.
    pub fn bias(&self) -> &[f64] {
        &self.bias
    }

    /// The logits `(k)` of one representation `(d)`.
    ///
    /// # Panics
    /// If `z` has not `d` elements.
    #[track_caller]
    pub fn logits(&self, z: &[f64]) -> Vec<f64> {
        assert_eq!(z.len(), self.d, "LinearHead: a representation of {} on {} features", z.len(), self.d);
        (0..self.k).map(|j| dot(self.row(j), z) + self.bias[j]).collect()
    }

    /// The gaps `m_j` `(k)` to the logit of `label`; zero at `label`.
    ///
    /// # Panics
    /// If `z` has not `d` elements or the label is out of range.
    #[track_caller]
    pub fn gaps(&self, z: &[f64], label: usize) -> Vec<f64> {
        let logits = self.logits(z);
        self.check(label);
        logits.iter().map(|logit| logit - logits[label]).collect()
    }

    /// The cross-entropy of one representation, in nats, from the gaps: exact where it is tiny.
    ///
    /// # Panics
    /// As [`gaps`](LinearHead::gaps).
    #[track_caller]
    pub fn loss(&self, z: &[f64], label: usize) -> f64 {
        gap::loss(&self.gaps(z, label), label)
    }

    /// The gap vector `v_j = w_j − w_label` `(d)`.
    ///
    /// # Panics
    /// If a class is out of range.
    #[track_caller]
    pub fn gap_vector(&self, j: usize, label: usize) -> Vec<f64> {
        self.check(j);
        self.check(label);
        self.row(j).iter().zip(self.row(label)).map(|(a, b)| a - b).collect()
    }

    /// `‖v_j‖` `(k)` in the dual of `norm`: how far a unit displacement can move each gap.
    ///
    /// # Panics
    /// If the label is out of range.
    #[track_caller]
    pub fn gap_norms(&self, label: usize, norm: LpNorm) -> Vec<f64> {
        self.check(label);
        (0..self.k).map(|j| norm.dual().distance(self.row(j), self.row(label))).collect()
    }

    /// `C_y = max_j ‖v_j‖`, the constant of Theorem A1 (docs/theory.md) for one label, in the dual of
    /// `norm`.
    ///
    /// # Panics
    /// If the label is out of range.
    #[track_caller]
    pub fn label_constant(&self, label: usize, norm: LpNorm) -> f64 {
        largest(self.gap_norms(label, norm).into_iter())
    }

    /// `C = max_y C_y`, the largest distance of two rows: the constant of the whole head, Theorem A3
    /// (docs/theory.md). Computed at the first call and kept.
    pub fn constant(&self, norm: LpNorm) -> f64 {
        *self.constants[norm as usize]
            .get_or_init(|| largest((0..self.k).map(|y| self.label_constant(y, norm))))
    }

    /// `√2 ‖W − 1·mean row‖₂ ≥ C` for l2 displacements, equal for two classes: Theorem A3
    /// (docs/theory.md). Centering matters: a vector added to all rows changes `‖W‖` and no softmax.
    pub fn spectral_constant(&self) -> f64 {
        let mean: Vec<f64> =
            (0..self.d).map(|c| (0..self.k).map(|j| self.row(j)[c]).sum::<f64>() / self.k as f64).collect();
        let centered: Vec<f64> = self.weight.iter().enumerate().map(|(i, w)| w - mean[i % self.d]).collect();
        SQRT_2 * spectral_norm(&centered, self.k, self.d)
    }

    /// `2 max_j ‖w_j‖ ≥ C`, in the dual of `norm`.
    pub fn row_constant(&self, norm: LpNorm) -> f64 {
        2.0 * largest((0..self.k).map(|j| norm.dual().of(self.row(j))))
    }

    /// `s_j = ‖v_j‖ · radius` `(k)`: how far a displacement within `radius` can move each gap.
    ///
    /// # Panics
    /// If the label is out of range.
    #[track_caller]
    pub fn supports(&self, label: usize, norm: LpNorm, radius: f64) -> Vec<f64> {
        self.gap_norms(label, norm).iter().map(|v| v * radius).collect()
    }

    /// `v_j · Δ` `(k)`: how far one displacement `delta` `(d)` moves each gap.
    ///
    /// # Panics
    /// If `delta` has not `d` elements or the label is out of range.
    #[track_caller]
    pub fn shifts(&self, label: usize, delta: &[f64]) -> Vec<f64> {
        assert_eq!(
            delta.len(),
            self.d,
            "LinearHead: a displacement of {} on {} features",
            delta.len(),
            self.d
        );
        self.check(label);
        let own = dot(self.row(label), delta);
        (0..self.k).map(|j| dot(self.row(j), delta) - own).collect()
    }

    /// `L + max(0, max_j s_j)`: Theorem A1 (docs/theory.md), the additive bound.
    ///
    /// # Panics
    /// If there are not `k` supports, or as [`gaps`](LinearHead::gaps).
    #[track_caller]
    pub fn additive_bound(&self, z: &[f64], label: usize, supports: &[f64]) -> f64 {
        gap::additive_bound(&self.gaps(z, label), label, supports)
    }

    /// `ln(1 + (eᴸ − 1) eˢ)` with `S = max(0, max_j s_j)`: the middle of Theorem A2 (docs/theory.md). Of
    /// the clean point it needs the loss alone.
    ///
    /// # Panics
    /// As [`additive_bound`](LinearHead::additive_bound).
    #[track_caller]
    pub fn odds_bound(&self, z: &[f64], label: usize, supports: &[f64]) -> f64 {
        gap::odds_bound(&self.gaps(z, label), label, supports)
    }

    /// `ln(1 + Σ_{j≠y} e^{m_j + s_j})`: Theorem A2 (docs/theory.md), the bound to report. `s_j` is any upper
    /// bound of `v_j · Δ` over the ball, from [`supports`](LinearHead::supports) or a certificate.
    ///
    /// # Panics
    /// As [`additive_bound`](LinearHead::additive_bound).
    #[track_caller]
    pub fn logit_gap_bound(&self, z: &[f64], label: usize, supports: &[f64]) -> f64 {
        gap::logit_gap_bound(&self.gaps(z, label), label, supports)
    }

    /// What rounding adds to the increase of each gap `(k)` between two vectors with elements of at most `reach`, known up to
    /// `γ` of as many roundings as `before`.
    pub(crate) fn rounding_of_sums(&self, reach: &[f64], label: usize, before: usize) -> Vec<f64> {
        self.check(label);
        let size = |j: usize| {
            let terms = self.row(j).iter().zip(reach).map(|(w, z)| w.abs() * z);
            terms.sum::<f64>() + self.bias[j].abs()
        };
        // Of both logits, at both points; the difference is one rounding more.
        let own = size(label);
        let unit = 2.02 * gamma(self.d + before + 8);
        (0..self.k)
            .map(|j| if j == label { 0.0 } else { unit * (size(j) + own) + f64::MIN_POSITIVE })
            .collect()
    }

    pub(crate) fn row(&self, j: usize) -> &[f64] {
        &self.weight[j * self.d..(j + 1) * self.d]
    }

    #[track_caller]
    fn check(&self, label: usize) {
        assert!(label < self.k, "LinearHead: label {label} of {} classes", self.k);
    }
}

impl SoftmaxHead for LinearHead {
    fn classes(&self) -> usize {
        self.k
    }

    fn features(&self) -> usize {
        self.d
    }

    fn gaps(&self, z: &[f64], label: usize) -> Vec<f64> {
        LinearHead::gaps(self, z, label)
    }

    fn radius_supports(&self, _: &[f64], label: usize, radius: f64) -> Vec<f64> {
        self.supports(label, LpNorm::L2, radius)
    }

    fn gap_rounding(&self, z: &[f64], label: usize, radius: f64) -> Vec<f64> {
        let reach: Vec<f64> = z.iter().map(|z| z.abs() + radius).collect();
        self.rounding_of_sums(&reach, label, 0)
    }
}
