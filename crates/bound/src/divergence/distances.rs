//! Divergences between clean and perturbed representations, differentiable in both.

use super::custom_ops::arcsine;
use super::reference::{FLOOR, Reference, floored, nearest_distances, rows, spread, volume_deviation};
use crate::theorems::whitening::Whitening;
use serde::{Deserialize, Serialize};
use std::f64::consts::SQRT_2;
use tarrl_tensor::Tensor;

/// A distance between the clean representations `z` `(n, d)` and the attacked ones.
///
/// They differ in which heads they bound, in which constant multiplies them
/// ([`constant`](Divergence::constant), [`excess`](Divergence::excess)), and in what a network can do to make
/// them small.
///
/// [`RelativeL2`](Divergence::RelativeL2) is the default because plain displacement has no scale:
/// with `α f` in place of `f`, displacements grow by α and the constants of the heads that compute the
/// same logits shrink by α, so the bound does not change and yet a penalty on the displacement does. A
/// network lowers it by shrinking all its representations, from which every head recovers. Divided by
/// the spread of the batch, displacement is invariant under scale, rotation and shift, and the bound
/// is unchanged: `C · ‖Δ‖ = (C · spread) · (‖Δ‖ / spread)`. The constant of the task becomes
/// `C · spread`, of the size of the differences between logits over the data: what a head needs to
/// tell classes apart however it is scaled. Theorem A6 (docs/theory.md) is the form that is invariant
/// under all linear maps. A [`Scale`](super::scale::Scale) does the same for the divergences that have no scale of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// `‖z' − z‖₁`. Theorem A1 (docs/theory.md) with the l-infinity distance of two rows.
    L1,
    /// `‖z' − z‖₂`. Theorem A1 (docs/theory.md) with the constant `C`, the largest distance of two
    /// rows of the head.
    L2,
    /// `‖z' − z‖₂²`. Theorem A1 through Jensen's inequality: the mean adversarial loss exceeds the mean
    /// clean loss by at most `C · √(mean of squares)`.
    #[serde(rename = "squared-l2")]
    SquaredL2,
    /// `‖z' − z‖_∞`. Theorem A1 (docs/theory.md) with the l1 distance of two rows.
    Linf,
    /// `1 − cos(z, z')`, as ½ of the squared distance of the unit vectors, which does not cancel where
    /// it is small. For heads on unit representations, `‖Δ‖ = √(2(1 − cos))` and Theorem A1 with their
    /// constant; it implies nothing for heads that depend on the length. A vector shorter than 1e-12 counts as
    /// one of length below one.
    Cosine,
    /// The angle between `z` and `z'`, in `[0, π]`. For heads on unit representations: the distance of the
    /// unit vectors is `2 sin(angle / 2)`, Theorem A4 (docs/theory.md).
    Angle,
    /// `‖z' − z‖₂ / spread(z)`: see [`spread`]. Theorem A1 with the constant `C · spread`. The gradient
    /// goes through both.
    #[default]
    #[serde(rename = "relative-l2")]
    RelativeL2,
    /// `‖z' − z‖₂` relative to the distance from `z` to the nearest other clean representation of the batch, where that is a
    /// quarter of the mean at least. Theorem B4b (docs/theory.md): below one half no sample is taken for another one, so
    /// that the mean bounds the error of nearest neighbors whatever the labels; and Theorem A1 with the constant `C` times
    /// the largest of these distances. Samples have no neighbors near them only if many directions are in use.
    RelativeNearest,
    /// `‖z' − z‖₂` relative to the deviation of a cloud of the batch's volume that is alike in all directions,
    /// `√d · det(Cov)^{1/2d}`, with a twentieth of the mean variance in every direction. Theorem A6b (docs/theory.md): the
    /// constant is that of tasks in all directions. Losing a direction makes it larger. The gradient goes through both; the
    /// determinant is computed on the host.
    RelativeVolume,
    /// `‖Σ^{−1/2}(z' − z)‖₂` with Σ the covariance of the clean batch and a thousandth of its mean variance.
    /// Theorem A6 (docs/theory.md): the constant is the standard deviation over the data of the gap between
    /// two logits. The gradient goes through Σ.
    Whitened,
    /// `‖z' − z‖₂² / 2`, the divergence of Kullback and Leibler if the representation carries normal noise of
    /// deviation 1 (or [`Scale::Noise`](super::scale::Scale::Noise)). Theorem C2 (docs/theory.md): any head, any loss with range `M`.
    GaussianKl,
    /// `erf(‖z' − z‖₂ / 2√2)`, the total variation distance under the same noise. Theorem C3 (docs/theory.md):
    /// any head, and the constant is the range `M` of the loss.
    GaussianTv,
}

impl Divergence {
    /// All of them.
    pub const ALL: [Divergence; 12] = [
        Divergence::L1,
        Divergence::L2,
        Divergence::SquaredL2,
        Divergence::Linf,
        Divergence::Cosine,
        Divergence::Angle,
        Divergence::RelativeL2,
        Divergence::RelativeNearest,
        Divergence::RelativeVolume,
        Divergence::Whitened,
        Divergence::GaussianKl,
        Divergence::GaussianTv,
    ];

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
            Divergence::L1 => moved.abs().sum(1).reshape([n]),
            Divergence::Linf => moved.abs().max(1).reshape([n]),
            Divergence::SquaredL2 => moved.square().sum(1).reshape([n]),
            Divergence::Cosine => half_square_between_units(z, z_adv),
            Divergence::RelativeL2 => &moved.norm(1).reshape([n]) / &floored(&spread(z)),
            Divergence::RelativeNearest => &moved.norm(1).reshape([n]) / &nearest_distances(z),
            Divergence::RelativeVolume => &moved.norm(1).reshape([n]) / &volume_deviation(z),
            Divergence::Angle | Divergence::Whitened => {
                let reference = self.own_reference(z);
                self.of_length(
                    &(&reference.apply(z_adv) - &reference.apply(z)).norm(1).reshape([n]),
                    z.shape()[1],
                )
            }
            Divergence::L2 | Divergence::GaussianKl | Divergence::GaussianTv => {
                self.of_length(&moved.norm(1).reshape([n]), z.shape()[1])
            }
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

    /// The objective of an inner attack, `(n, d)` to `(n)`: a function with the same maximizer in each ball, and
    /// smooth where there is one. The squared distance in place of the distance, which has no gradient at zero;
    /// what the clean batch alone decides is left out.
    ///
    /// Its gradient is exactly zero where `z_adv = z`: an ascent from the clean point never moves.
    ///
    /// # Panics
    /// As [`per_sample`](Divergence::per_sample).
    #[track_caller]
    pub fn inner(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        rows(z, z_adv);
        let reference = self.own_reference(z).without_factor();
        self.ascended(&reference.apply(z), &reference.apply(z_adv))
    }

    /// As [`inner`](Divergence::inner), of representations in their reference.
    pub(super) fn ascended(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        let n = z.shape()[0];
        let moved = z_adv - z;
        match self {
            Divergence::L1 => moved.abs().sum(1).reshape([n]),
            Divergence::Linf => moved.abs().max(1).reshape([n]),
            Divergence::Cosine | Divergence::Angle => moved.square().sum(1).mul_scalar(0.5).reshape([n]),
            _ => moved.square().sum(1).reshape([n]),
        }
    }

    /// The value, or an upper bound of it, for an l2 displacement of length `r` `(n)` in the divergence's
    /// reference, in `d` dimensions.
    pub(super) fn of_length(&self, r: &Tensor, d: usize) -> Tensor {
        match self {
            Divergence::L1 => r.mul_scalar((d as f64).sqrt()),
            Divergence::L2
            | Divergence::Linf
            | Divergence::RelativeL2
            | Divergence::RelativeNearest
            | Divergence::RelativeVolume
            | Divergence::Whitened => r.clone(),
            Divergence::SquaredL2 => r.square(),
            Divergence::Cosine | Divergence::GaussianKl => r.square().mul_scalar(0.5),
            Divergence::Angle => arcsine(&r.mul_scalar(0.5).clamp(0.0, 1.0)).mul_scalar(2.0),
            Divergence::GaussianTv => r.mul_scalar(0.5 / SQRT_2).erf(),
        }
    }

    /// What the divergence measures displacements against.
    pub(super) fn own_reference(&self, z: &Tensor) -> Reference {
        match self {
            Divergence::Cosine | Divergence::Angle => Reference::Rows,
            Divergence::RelativeL2 => Reference::Factor(floored(&spread(z))),
            Divergence::RelativeNearest => {
                Reference::RowFactors(nearest_distances(z).reshape([z.shape()[0], 1]))
            }
            Divergence::RelativeVolume => Reference::Factor(volume_deviation(z)),
            Divergence::Whitened => Reference::whitening(z, Whitening::RIDGE),
            _ => Reference::Plain,
        }
    }

    /// Whether it is invariant to scale by itself, so that no [`Scale`](super::scale::Scale) is needed.
    pub fn has_own_scale(&self) -> bool {
        use Divergence::{Angle, Cosine, RelativeL2, RelativeNearest, RelativeVolume, Whitened};
        matches!(self, Cosine | Angle | RelativeL2 | RelativeNearest | RelativeVolume | Whitened)
    }
}

fn half_square_between_units(z: &Tensor, z_adv: &Tensor) -> Tensor {
    let between = &z_adv.l2_normalize(FLOOR) - &z.l2_normalize(FLOOR);
    between.square().sum(1).mul_scalar(0.5).reshape([z.shape()[0]])
}
