//! Reference maps of the clean batch: representations divided by their spread, normalized, or whitened.

use super::custom_ops::whitening_factor;
use tarrl_tensor::{Tensor, Transpose};

/// The floor of a norm that divides.
pub(crate) const FLOOR: f64 = 1e-12;

/// A map of representations that the clean batch decides.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    Plain,
    /// Divided by a number.
    Factor(Tensor),
    /// Each row divided by its length.
    Rows,
    /// `z Wᵀ`
    Linear(Tensor),
}

impl Reference {
    pub(crate) fn whitening(z: &Tensor, ridge: f64) -> Reference {
        let (n, d) = (z.shape()[0], z.shape()[1]);
        let centered = z - &z.mean(0);
        let covariance =
            centered.matmul_with(&centered, Transpose { a: true, b: false }).mul_scalar(1.0 / n as f64);
        let unit: Vec<f64> = (0..d * d).map(|i| f64::from(u8::from(i / d == i % d))).collect();
        let unit = Tensor::new(z.device(), [d, d], &unit).cast(z.dtype());
        let trace = (&covariance * &unit).sum_all();
        // The second part keeps a collapsed batch invertible.
        let added = trace.mul_scalar(ridge / d as f64).add_scalar(FLOOR);
        Reference::Linear(whitening_factor(&(&covariance + &(&unit * &added))))
    }

    pub(crate) fn apply(&self, z: &Tensor) -> Tensor {
        match self {
            Reference::Plain => z.clone(),
            Reference::Factor(by) => z / by,
            Reference::Rows => z.l2_normalize(FLOOR),
            Reference::Linear(w) => z.matmul_with(w, Transpose { a: false, b: true }),
        }
    }

    /// The same but for a common factor, which moves no maximizer.
    pub(crate) fn without_factor(self) -> Reference {
        if let Reference::Factor(_) = self { Reference::Plain } else { self }
    }

    /// `vᵀ` times the Jacobian of the map at `z`, row by row, with the reference held fixed: `(n, d)`.
    pub(crate) fn cotangent(&self, z: &Tensor, v: &Tensor) -> Tensor {
        match self {
            Reference::Plain => v.clone(),
            Reference::Factor(by) => v / by,
            Reference::Linear(w) => v.matmul(w),
            Reference::Rows => {
                let unit = z.l2_normalize(FLOOR);
                let across = v - &(&unit * &(v * &unit).sum(1));
                &across / &floored(&z.norm(1))
            }
        }
    }

    /// An upper bound `(n)` of the length of a displacement in the reference, from its length `r` `(n)` before.
    pub(crate) fn length(&self, z: &Tensor, r: &Tensor) -> Tensor {
        match self {
            Reference::Plain => r.clone(),
            Reference::Factor(by) => r / by,
            // Theorem A4: the chord is at most √2 r / ‖z‖ while the ball leaves out the origin, then 2.
            Reference::Rows => {
                let lengths = floored(&z.norm(1)).reshape(*r.shape());
                let chord = (r / &lengths).mul_scalar(std::f64::consts::SQRT_2);
                let most = Tensor::full(r.device(), *r.shape(), r.dtype(), 2.0);
                lengths.greater(r).select(&chord, &most)
            }
            // The Frobenius norm is at least the spectral one.
            Reference::Linear(w) => r * &w.square().sum_all().sqrt(),
        }
    }
}

/// The mean distance of the representations `(n, d)` from their mean: a scalar, differentiable.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub fn spread(z: &Tensor) -> Tensor {
    assert!(z.shape().rank() == 2, "spread: representations of shape {:?}, not (n, d)", z.shape());
    (z - &z.mean(0)).norm(1).mean_all()
}

/// `√(tr Cov)` of the representations `(n, d)`, the covariance divided by `n`: a scalar, differentiable but at
/// collapse.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub(crate) fn total_deviation(z: &Tensor) -> Tensor {
    assert!(z.shape().rank() == 2, "total_deviation: representations of shape {:?}, not (n, d)", z.shape());
    let n = z.shape()[0];
    let centered = (z - &z.mean(0)).reshape([1, z.shape().len()]);
    // The root of a sum as a norm, whose slope at zero is zero.
    centered.norm(1).reshape([]).mul_scalar(1.0 / (n as f64).sqrt())
}

/// The mean distance of neighbors in the batch `(n, d)`, the last and the first included: an estimate of the
/// mean distance of two samples if the order is random, as batches are. A scalar, differentiable.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub(crate) fn pair_distance(z: &Tensor) -> Tensor {
    assert!(z.shape().rank() == 2, "pair_distance: representations of shape {:?}, not (n, d)", z.shape());
    let n = z.shape()[0];
    let next = if n > 1 { Tensor::concat(&[&z.slice(0, 1, n - 1), &z.slice(0, 0, 1)], 0) } else { z.clone() };
    (z - &next).norm(1).mean_all()
}

/// A collapsed batch has no spread: a ratio to it is then large and finite.
pub(crate) fn floored(size: &Tensor) -> Tensor {
    size.maximum(&Tensor::full(size.device(), *size.shape(), size.dtype(), FLOOR))
}

/// The number of samples of two batches of representations, which must be of one shape `(n, d)`.
#[track_caller]
pub(crate) fn rows(z: &Tensor, z_adv: &Tensor) -> usize {
    assert!(
        z.shape() == z_adv.shape() && z.shape().rank() == 2,
        "divergence: representations of shapes {:?} and {:?}; both must be (n, d)",
        z.shape(),
        z_adv.shape()
    );
    z.shape()[0]
}
