//! Reference maps of the clean batch: representations divided by their spread, normalized, or whitened.

use super::custom_ops::whitening_factor;
use tarrl_tensor::{Array, Tensor, Transpose};

/// The floor of a norm that divides.
pub(crate) const FLOOR: f64 = 1e-12;

/// A map of representations that the clean batch decides.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    Plain,
    /// Divided by a number.
    Factor(Tensor),
    /// Each row divided by its own number `(n, 1)`; only for the rows of the clean batch, all and in their order.
    RowFactors(Tensor),
    /// Each row divided by its length.
    Rows,
    /// `z Wᵀ`
    Linear(Tensor),
}

impl Reference {
    pub(crate) fn whitening(z: &Tensor, ridge: f64) -> Reference {
        Reference::Linear(whitening_factor(&ridged_covariance(z, ridge)))
    }

    pub(crate) fn apply(&self, z: &Tensor) -> Tensor {
        match self {
            Reference::Plain => z.clone(),
            Reference::Factor(by) | Reference::RowFactors(by) => z / by,
            Reference::Rows => z.l2_normalize(FLOOR),
            Reference::Linear(w) => z.matmul_with(w, Transpose { a: false, b: true }),
        }
    }

    /// The same but for factors of whole rows, which move no maximizer.
    pub(crate) fn without_factor(self) -> Reference {
        match self {
            Reference::Factor(_) | Reference::RowFactors(_) => Reference::Plain,
            other => other,
        }
    }

    /// `vᵀ` times the Jacobian of the map at `z`, row by row, with the reference held fixed: `(n, d)`.
    pub(crate) fn cotangent(&self, z: &Tensor, v: &Tensor) -> Tensor {
        match self {
            Reference::Plain => v.clone(),
            Reference::Factor(by) | Reference::RowFactors(by) => v / by,
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
            Reference::RowFactors(by) => r / &by.reshape(*r.shape()),
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

/// `√(tr Cov)` of the representations `(n, d)`, the covariance divided by `n`, which is their root mean square distance from
/// the mean: a scalar, differentiable but at collapse.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub fn total_deviation(z: &Tensor) -> Tensor {
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

/// For each of the representations `(n, d)` the distance to the nearest other one, but at least a quarter of the mean of
/// these distances: `(n)`, differentiable. Two samples that are almost equal must not outweigh all others.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub(crate) fn nearest_distances(z: &Tensor) -> Tensor {
    assert!(z.shape().rank() == 2, "nearest_distances: representations of shape {:?}, not (n, d)", z.shape());
    let n = z.shape()[0];
    if n == 1 {
        return Tensor::full(z.device(), [1], z.dtype(), FLOOR);
    }
    // Which one is nearest follows from the Gram matrix; how far it is, which must not cancel, from the difference.
    let centered = (z - &z.mean(0)).detach();
    let squares = centered.square().sum(1);
    let products = centered.matmul_with(&centered, Transpose { a: false, b: true });
    let nearness = &(&products.mul_scalar(2.0) - &squares) - &squares.reshape([1, n]);
    // A sample is not its own neighbor, whatever the scale: nothing is added that a square could outgrow.
    let never = Tensor::full(z.device(), [n, n], z.dtype(), f64::NEG_INFINITY);
    let nearest = diagonal(z, n, 1.0).select(&never, &nearness).argmax(1);
    let distances = (z - &z.gather(0, &nearest)).norm(1);
    let least = distances.mean(0).mul_scalar(0.25).broadcast_to([n, 1]);
    floored(&distances.maximum(&least)).reshape([n])
}

/// `√d · det(S)^{1/2d}` of the representations `(n, d)`, where S is their covariance, divided by `n`, and a twentieth of
/// its mean variance in every direction: a scalar, differentiable. It is the total deviation of a cloud of the same
/// volume that is alike in all directions, at most `√(1.05 tr Cov)`, and falls when any direction is lost.
///
/// # Panics
/// If `z` is not `(n, d)`.
#[track_caller]
pub(crate) fn volume_deviation(z: &Tensor) -> Tensor {
    assert!(z.shape().rank() == 2, "volume_deviation: representations of shape {:?}, not (n, d)", z.shape());
    let d = z.shape()[1];
    // W S Wᵀ = 1 with W lower triangular: ln det S = −2 Σ ln W_ii.
    let factor = whitening_factor(&ridged_covariance(z, VOLUME_RIDGE));
    let roots = (&factor * &diagonal(z, d, 1.0)).sum(1);
    roots.log().mean_all().neg().exp().mul_scalar((d as f64).sqrt())
}

/// The share of the mean variance that every direction of [`volume_deviation`] has at least.
pub(crate) const VOLUME_RIDGE: f64 = 0.05;

/// The covariance of the representations `(n, d)`, divided by `n`, with `ridge` times its mean variance in every direction.
fn ridged_covariance(z: &Tensor, ridge: f64) -> Tensor {
    let (n, d) = (z.shape()[0], z.shape()[1]);
    let centered = z - &z.mean(0);
    let covariance =
        centered.matmul_with(&centered, Transpose { a: true, b: false }).mul_scalar(1.0 / n as f64);
    let unit = diagonal(z, d, 1.0);
    let trace = (&covariance * &unit).sum_all();
    // The second part keeps a collapsed batch invertible.
    let added = trace.mul_scalar(ridge / d as f64).add_scalar(FLOOR);
    &covariance + &(&unit * &added)
}

/// `(m, m)`: `value` on the diagonal, else 0.
fn diagonal(like: &Tensor, m: usize, value: f64) -> Tensor {
    let places: Vec<u32> = (0..m).map(|i| (i * (m + 1)) as u32).collect();
    let places = Array::table(like.device(), [m], &places);
    Tensor::full(like.device(), [m], like.dtype(), value).scatter_add(0, &places, m * m).reshape([m, m])
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
