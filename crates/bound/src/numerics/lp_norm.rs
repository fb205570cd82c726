//! Lp norms of displacements, and their duals.

use super::stable::largest;

/// A norm of displacements in representation space; the head is measured in its dual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LpNorm {
    /// The sum of absolute values.
    L1,
    /// The Euclidean norm.
    L2,
    /// The largest absolute value.
    Linf,
}

impl LpNorm {
    /// All three.
    pub const ALL: [LpNorm; 3] = [LpNorm::L1, LpNorm::L2, LpNorm::Linf];

    /// The norm in which `|v · Δ| ≤ ‖v‖_dual ‖Δ‖` (Hölder).
    pub fn dual(self) -> Self {
        match self {
            LpNorm::L1 => LpNorm::Linf,
            LpNorm::L2 => LpNorm::L2,
            LpNorm::Linf => LpNorm::L1,
        }
    }

    /// The norm of a vector.
    pub fn of(self, v: &[f64]) -> f64 {
        self.over(v.iter().copied())
    }

    /// The norm of `a − b`.
    ///
    /// # Panics
    /// If their lengths differ.
    #[track_caller]
    pub fn distance(self, a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len(), "distance: vectors of {} and {} elements", a.len(), b.len());
        self.over(a.iter().zip(b).map(|(a, b)| a - b))
    }

    fn over(self, v: impl Iterator<Item = f64>) -> f64 {
        match self {
            LpNorm::L1 => v.map(f64::abs).sum(),
            LpNorm::L2 => v.map(|v| v * v).sum::<f64>().sqrt(),
            LpNorm::Linf => largest(v.map(f64::abs).chain([0.0])),
        }
    }
}
