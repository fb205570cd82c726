//! How far a representation moves.

use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// The floor of a norm that divides.
const FLOOR: f64 = 1e-12;

/// A distance between the clean representations `z` `(n, d)` and the attacked ones.
///
/// Every one but [`Cosine`](Divergence::Cosine) bounds the loss of all linear heads; they differ in
/// which constant of the head stands before them, and in what a network can do to make them small.
///
/// [`RelativeL2`](Divergence::RelativeL2) is the default because plain displacement has no scale:
/// with `α f` in place of `f`, displacements grow by α and the constants of the heads that compute the
/// same logits shrink by α, so the bound does not change and yet a penalty on the displacement does. A
/// network lowers it by shrinking all its representations, from which every head recovers. Divided by
/// the spread of the batch, displacement is invariant under scale, rotation and shift, and the bound
/// is unchanged: `C · ‖Δ‖ = (C · spread) · (‖Δ‖ / spread)`. The constant of the task becomes
/// `C · spread`, of the size of the differences between logits over the data: what a head needs to
/// tell classes apart however it is scaled. Theorem A6 (docs/theory.md) is the form that is invariant
/// under all linear maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// `‖z' − z‖₂`. Theorem A1 (docs/theory.md) with the constant `C`, the largest distance of two
    /// rows of the head.
    L2,
    /// `‖z' − z‖₂²`. Theorem A1 through Jensen's inequality: the mean adversarial loss exceeds the mean
    /// clean loss by at most `C · √(mean of squares)`.
    #[serde(rename = "squared-l2")]
    SquaredL2,
    /// `1 − cos(z, z')`, as ½ of the squared distance of the unit vectors, which does not cancel where
    /// it is small. For heads on unit representations, `‖Δ‖ = √(2(1 − cos))` and Theorem A1 with their
    /// constant; it says nothing of heads that see the length. A vector shorter than 1e-12 counts as
    /// one of length below one.
    Cosine,
    /// `‖z' − z‖₂ / spread(z)`: see [`spread`]. Theorem A1 with the constant `C · spread`. The gradient
    /// goes through both.
    #[default]
    #[serde(rename = "relative-l2")]
    RelativeL2,
}

impl Divergence {
    /// The divergence of each sample: `z` and `z_adv` of shape `(n, d)` to `(n)`. Differentiable in
    /// both; where a sample has not moved the gradient is zero.
    ///
    /// # Panics
    /// If the shapes differ or are not `(n, d)`.
    #[track_caller]
    pub fn per_sample(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        let n = rows(z, z_adv);
        let moved = z_adv - z;
        match self {
            Divergence::L2 => moved.norm(1).reshape([n]),
            Divergence::SquaredL2 => moved.square().sum(1).reshape([n]),
            Divergence::Cosine => half_square_between_units(z, z_adv),
            Divergence::RelativeL2 => &moved.norm(1).reshape([n]) / &floored(&spread(z)),
        }
    }

    /// The mean over the samples: a scalar.
    ///
    /// # Panics
    /// As [`per_sample`](Divergence::per_sample).
    #[track_caller]
    pub fn mean(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        self.per_sample(z, z_adv).mean_all()
    }

    /// What an inner attack ascends, `(n, d)` to `(n)`: a smooth function with the same maximiser in
    /// each ball. The squared distance in place of the distance, which has no gradient at zero; the
    /// spread of the clean batch does not depend on the attacked point and is left out.
    ///
    /// Its gradient is exactly zero where `z_adv = z`: an ascent from the clean point never moves.
    ///
    /// # Panics
    /// As [`per_sample`](Divergence::per_sample).
    #[track_caller]
    pub fn inner(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        let n = rows(z, z_adv);
        match self {
            Divergence::L2 | Divergence::SquaredL2 | Divergence::RelativeL2 => {
                (z_adv - z).square().sum(1).reshape([n])
            }
            Divergence::Cosine => half_square_between_units(z, z_adv),
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

/// A collapsed batch has no spread: the ratio is then large and finite.
fn floored(spread: &Tensor) -> Tensor {
    spread.maximum(&Tensor::full(spread.device(), [], spread.dtype(), FLOOR))
}

fn half_square_between_units(z: &Tensor, z_adv: &Tensor) -> Tensor {
    let between = &z_adv.l2_normalize(FLOOR) - &z.l2_normalize(FLOOR);
    between.square().sum(1).mul_scalar(0.5).reshape([z.shape()[0]])
}

#[track_caller]
fn rows(z: &Tensor, z_adv: &Tensor) -> usize {
    assert!(
        z.shape() == z_adv.shape() && z.shape().rank() == 2,
        "divergence: representations of shapes {:?} and {:?}; both must be (n, d)",
        z.shape(),
        z_adv.shape()
    );
    z.shape()[0]
}
