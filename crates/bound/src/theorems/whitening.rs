//! Whitening: displacements measured in standard deviations of the data, Theorem A6 (docs/theory.md).

use crate::heads::LinearHead;
use crate::numerics::LpNorm;
use crate::numerics::linalg::{dot, inverse_factor};
use crate::numerics::stable::largest;

/// The covariance of clean representations and its inverse root, in f64.
///
/// For every gap vector `v`: `|v · Δ| ≤ deviation(v) · length(Δ)`, and `length` does not change under
/// invertible affine maps of the representation (without a ridge).
#[derive(Clone, Debug, PartialEq)]
pub struct Whitening {
    /// `Σ + ridge` `(d, d)`.
    covariance: Vec<f64>,
    /// `W` `(d, d)`, lower triangular, with `W (Σ + ridge) Wᵀ = 1`.
    factor: Vec<f64>,
    d: usize,
}

impl Whitening {
    /// The ridge of [`Divergence::Whitened`](crate::Divergence::Whitened): batches are often smaller than
    /// representations are wide.
    pub const RIDGE: f64 = 1e-3;

    /// Of the representations `z` `(n, d)`, row-major, with `ridge · (mean variance)` added to each variance,
    /// and the covariance divided by `n`. `None` if the result is singular, as for fewer than `d + 1` points
    /// without a ridge.
    ///
    /// # Panics
    /// If `z` has not a whole number of rows.
    #[track_caller]
    pub fn of(z: &[f64], d: usize, ridge: f64) -> Option<Self> {
        assert!(d > 0 && z.len().is_multiple_of(d), "Whitening: {} numbers in rows of {d}", z.len());
        let n = (z.len() / d) as f64;
        let mean: Vec<f64> = (0..d).map(|c| z.chunks(d).map(|row| row[c]).sum::<f64>() / n).collect();
        let mut covariance = vec![0.0; d * d];
        for row in z.chunks(d) {
            let centered: Vec<f64> = row.iter().zip(&mean).map(|(v, m)| v - m).collect();
            for (i, line) in covariance.chunks_mut(d).enumerate() {
                line.iter_mut().zip(&centered).for_each(|(s, c)| *s += centered[i] * c / n);
            }
        }
        let trace: f64 = (0..d).map(|i| covariance[i * d + i]).sum();
        (0..d).for_each(|i| covariance[i * d + i] += ridge * trace / d as f64);
        let factor = inverse_factor(&covariance, d)?;
        Some(Whitening { covariance, factor, d })
    }

    /// `‖Σ^{−1/2} Δ‖₂` of a displacement `(d)`.
    ///
    /// # Panics
    /// If `delta` has not `d` elements.
    #[track_caller]
    pub fn length(&self, delta: &[f64]) -> f64 {
        assert_eq!(delta.len(), self.d, "Whitening: a displacement of {} on {}", delta.len(), self.d);
        let whitened: Vec<f64> = self.factor.chunks(self.d).map(|row| dot(row, delta)).collect();
        LpNorm::L2.of(&whitened)
    }

    /// `√(vᵀ Σ v)` of a direction `(d)`: the standard deviation of `v · z` over the data.
    ///
    /// # Panics
    /// If `v` has not `d` elements.
    #[track_caller]
    pub fn deviation(&self, v: &[f64]) -> f64 {
        assert_eq!(v.len(), self.d, "Whitening: a direction of {} on {}", v.len(), self.d);
        let square: f64 = self.covariance.chunks(self.d).zip(v).map(|(row, x)| x * dot(row, v)).sum();
        square.sqrt()
    }

    /// The constant of a head before a whitened length: the largest standard deviation, over the data, of the
    /// gap between two logits.
    ///
    /// # Panics
    /// If the head has another width.
    #[track_caller]
    pub fn constant(&self, head: &LinearHead) -> f64 {
        let k = head.classes();
        let pairs = (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j)));
        largest(pairs.map(|(i, j)| self.deviation(&head.gap_vector(i, j))))
    }
}
