//! Collapse detection: size and effective rank of a batch of representations.

use crate::numerics::linalg::eigenvalues;
use serde::{Deserialize, Serialize};
use std::fmt;
use tarrl_tensor::{DType, Tensor, Transpose, math};

/// The size and shape of a batch of representations, with the term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepresentationStats {
    /// R of the batch, unweighted.
    pub regularizer: f64,
    /// The mean length of a representation.
    pub feature_norm: f64,
    /// The mean over dimensions of the standard deviation over the batch.
    pub deviation: f64,
    /// The least of these.
    pub least_deviation: f64,
    /// The exponential of the entropy of the singular values of the centered batch (Roy and Vetterli 2007), from 1
    /// to the smaller of `d` and `n`: how many dimensions are in use.
    pub effective_rank: f64,
    /// The number of dimensions, or of samples if that is smaller.
    pub dimensions: usize,
}

/// A collapse of the representation, by name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum CollapseFinding {
    /// The representation has shrunk: a penalty that has a scale is lowered for nothing.
    ScaleCollapse {
        /// [`RepresentationStats::deviation`] now.
        deviation: f64,
        /// The same at the beginning.
        before: f64,
    },
    /// Few dimensions are in use.
    DimensionCollapse {
        /// [`RepresentationStats::effective_rank`] now.
        effective_rank: f64,
        /// [`RepresentationStats::dimensions`].
        dimensions: usize,
    },
}

/// Below this share of its deviation at the beginning a representation counts as shrunk.
const SHRUNK: f64 = 0.1;

/// Below this share of the dimensions in use they count as collapsed.
const NARROW: f64 = 0.05;

impl RepresentationStats {
    /// Of the representations `z` `(n, d)` and the term. Computes the eigenvalues of an `(min(n, d), min(n, d))` matrix
    /// on the host: meant for once per epoch, not for every step.
    ///
    /// # Panics
    /// If `z` is not `(n, d)` with at least two rows.
    #[track_caller]
    pub fn of(regularizer: f64, z: &Tensor) -> Self {
        let shape = *z.shape();
        assert!(
            shape.rank() == 2 && shape[0] >= 2,
            "RepresentationStats: representations of shape {shape:?}"
        );
        let (n, d) = (shape[0], shape[1]);
        let z = z.detach().cast(DType::F64);
        let centered = &z - &z.mean(0);
        let deviations = centered.square().mean(0).sqrt();
        let gram = if d <= n {
            centered.matmul_with(&centered, Transpose { a: true, b: false })
        } else {
            centered.matmul_with(&centered, Transpose { a: false, b: true })
        };
        RepresentationStats {
            regularizer,
            feature_norm: z.norm(1).mean_all().item(),
            deviation: deviations.mean_all().item(),
            least_deviation: deviations.min(1).item(),
            effective_rank: effective_rank(eigenvalues(gram.to_vec(), n.min(d))),
            dimensions: n.min(d),
        }
    }

    /// The collapses found, compared with statistics from the beginning of training.
    pub fn findings(&self, beginning: &RepresentationStats) -> Vec<CollapseFinding> {
        let mut found = Vec::new();
        let healthy = self.deviation >= SHRUNK * beginning.deviation;
        if !healthy {
            found.push(CollapseFinding::ScaleCollapse {
                deviation: self.deviation,
                before: beginning.deviation,
            });
        }
        let wide = self.effective_rank >= NARROW * self.dimensions as f64;
        if !wide || (self.effective_rank < 1.5 && self.dimensions > 2) {
            let RepresentationStats { effective_rank, dimensions, .. } = *self;
            found.push(CollapseFinding::DimensionCollapse { effective_rank, dimensions });
        }
        found
    }
}

impl CollapseFinding {
    /// Its name, as in files.
    pub fn name(&self) -> &'static str {
        match self {
            CollapseFinding::ScaleCollapse { .. } => "scale-collapse",
            CollapseFinding::DimensionCollapse { .. } => "dimension-collapse",
        }
    }
}

impl fmt::Display for CollapseFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CollapseFinding::ScaleCollapse { deviation, before } => write!(
                f,
                "the representation has shrunk (deviation {deviation:.3e}, {before:.3e} at the beginning), so that a \
                 displacement is small for nothing; use divergence = \"relative-l2\" or a scale, or lower the weight"
            ),
            CollapseFinding::DimensionCollapse { effective_rank, dimensions } => write!(
                f,
                "few dimensions of the representation are in use (effective rank {effective_rank:.1} of \
                 {dimensions}); lower the weight of the regularizer, or take an objective that decorrelates"
            ),
        }
    }
}

/// `exp(−Σ p ln p)` with `p` the shares of the roots; 1 if all are zero.
fn effective_rank(eigenvalues: Vec<f64>) -> f64 {
    let top = eigenvalues.iter().copied().fold(0.0, f64::max);
    // Eigenvalues below the rounding error of the largest count as zero.
    let roots: Vec<f64> = eigenvalues.into_iter().filter(|l| *l > 1e-14 * top).map(f64::sqrt).collect();
    let sum: f64 = roots.iter().sum();
    math::exp(roots.iter().map(|r| -(r / sum) * math::ln(r / sum)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Key, Random, cpu};

    fn normal(n: usize, d: usize) -> Tensor {
        let keys: Vec<Key> = (0..n).map(|i| Key::new(3).fold(i)).collect();
        Tensor::random(&cpu(), Random::Normal, &keys, &[d], DType::F32)
    }

    #[test]
    fn statistics_of_a_rectangle_of_four_points() {
        // Corners of a rectangle: deviations 2 and 1, singular values in the ratio 2 : 1.
        let z = Tensor::new(&cpu(), [4, 2], &[2.0, 1.0, -2.0, 1.0, 2.0, -1.0, -2.0, -1.0]);
        let seen = RepresentationStats::of(0.5, &z);
        assert_eq!((seen.regularizer, seen.deviation, seen.least_deviation), (0.5, 1.5, 1.0));
        assert!((seen.feature_norm - 5f64.sqrt()).abs() < 1e-15);
        let entropy = (2.0 / 3.0) * 1.5f64.ln() + (1.0 / 3.0) * 3f64.ln();
        assert!((seen.effective_rank - entropy.exp()).abs() < 1e-13, "{seen:?}");
        // More dimensions than samples, the same batch.
        let wide = Tensor::concat(&[&z, &z, &z], 1);
        assert!((RepresentationStats::of(0.5, &wide).effective_rank - seen.effective_rank).abs() < 1e-12);
        let same = Tensor::full(&cpu(), [3, 2], DType::F32, 0.5);
        assert_eq!(RepresentationStats::of(0.0, &same).effective_rank, 1.0);
    }

    #[test]
    fn scale_and_dimension_collapse_are_reported_by_name() {
        let z = normal(64, 32);
        let names = |now: &Tensor| {
            let found = RepresentationStats::of(0.1, now).findings(&RepresentationStats::of(0.1, &z));
            found.iter().map(CollapseFinding::name).collect::<Vec<_>>()
        };
        assert_eq!(names(&z), [""; 0]);
        assert_eq!(names(&z.mul_scalar(0.11)), [""; 0]);
        assert_eq!(names(&z.mul_scalar(0.09)), ["scale-collapse"]);
        let line = normal(64, 1).matmul(&Tensor::full(&cpu(), [1, 32], DType::F32, 1.0));
        assert_eq!(names(&line), ["dimension-collapse"]);
        assert_eq!(names(&z.mul_scalar(f64::NAN)), ["scale-collapse", "dimension-collapse"]);
        let finding = CollapseFinding::ScaleCollapse { deviation: 0.01, before: 1.0 };
        assert!(finding.to_string().contains("1.000e-2") && finding.to_string().contains("relative-l2"));
    }
}
