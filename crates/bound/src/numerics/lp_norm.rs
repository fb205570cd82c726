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

    fn over(self, v: impl Iterator<Item = f64> + Clone) -> f64 {
        match self {
            LpNorm::L1 => v.map(f64::abs).sum(),
            LpNorm::L2 => euclidean(v),
            LpNorm::Linf => largest(v.map(f64::abs).chain([0.0])),
        }
    }
}

/// The root of the sum of squares; by the largest element first where squares would underflow or overflow.
fn euclidean(v: impl Iterator<Item = f64> + Clone) -> f64 {
    let square: f64 = v.clone().map(|v| v * v).sum();
    if (1e-250..f64::MAX).contains(&square) || square.is_nan() {
        return square.sqrt();
    }
    let top = largest(v.clone().map(f64::abs).chain([0.0]));
    if top == 0.0 || top.is_infinite() {
        return top;
    }
    top * v.map(|v| (v / top).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_tiny_and_huge_vectors_neither_vanish_nor_overflow() {
        for scale in [5e-324, 1e-300, 1e-170, 1.0, 1e170, 1e307] {
            let length = LpNorm::L2.of(&[3.0 * scale, -4.0 * scale]);
            // Two roundings, or those of the least number.
            assert!(
                (length - 5.0 * scale).abs() <= 2.0 * f64::EPSILON * length + 5e-324,
                "{scale:e}: {length:e}"
            );
        }
        assert_eq!(LpNorm::L2.of(&[0.0, -0.0]), 0.0);
        assert_eq!(LpNorm::L2.of(&[1.0, f64::INFINITY]), f64::INFINITY);
        assert!(LpNorm::L2.of(&[1e-200, f64::NAN]).is_nan());
    }
}
