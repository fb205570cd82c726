//! Task constants: the factor before a divergence in the bound of a loss.

use super::distances::Divergence;
use crate::numerics::LpNorm;
use tarrl_tensor::math;

/// The factor before a divergence in its bound: a property of the task and its head, not of the encoder's
/// robustness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskConstant {
    /// [`LinearHead::constant`](crate::LinearHead::constant) in this norm: the largest distance of two rows, in
    /// its dual.
    Rows(LpNorm),
    /// The same in l2 of a head on unit vectors; at most `2/τ` for unit rows, whatever the task.
    UnitRows,
    /// The same in l2, times the [`spread`](super::spread) of the clean representations.
    RowsTimesSpread,
    /// The same in l2, times the largest distance from a clean representation to the nearest other one.
    RowsTimesNearest,
    /// The same in l2, times the deviation that the volume of the clean representations has in every direction.
    RowsTimesVolume,
    /// [`Whitening::constant`](crate::Whitening::constant): the largest standard deviation over the data of the
    /// gap between two logits, with the ridge [`Whitening::RIDGE`](crate::Whitening::RIDGE).
    GapDeviation,
    /// The range `M` of a bounded loss, for any head on the noisy representation.
    LossRange,
}

impl Divergence {
    /// The constant of its bound.
    pub fn constant(&self) -> TaskConstant {
        match self {
            Divergence::L1 => TaskConstant::Rows(LpNorm::L1),
            Divergence::L2 | Divergence::SquaredL2 => TaskConstant::Rows(LpNorm::L2),
            Divergence::Linf => TaskConstant::Rows(LpNorm::Linf),
            Divergence::Cosine | Divergence::Angle => TaskConstant::UnitRows,
            Divergence::RelativeL2 => TaskConstant::RowsTimesSpread,
            Divergence::RelativeNearest => TaskConstant::RowsTimesNearest,
            Divergence::RelativeVolume => TaskConstant::RowsTimesVolume,
            Divergence::Whitened => TaskConstant::GapDeviation,
            Divergence::GaussianKl | Divergence::GaussianTv => TaskConstant::LossRange,
        }
    }

    /// How much the mean adversarial loss can exceed the mean clean loss, if the mean over samples of the
    /// largest divergence is `mean`: the bound of the theorem that the divergence cites, with Jensen's
    /// inequality where the bound of one sample is concave in its divergence.
    pub fn excess(&self, constant: f64, mean: f64) -> f64 {
        constant
            * match self {
                Divergence::SquaredL2 => mean.sqrt(),
                Divergence::Cosine => (2.0 * mean).sqrt(),
                Divergence::Angle => 2.0 * math::sin(0.5 * mean),
                Divergence::GaussianKl => (0.5 * mean).sqrt(),
                _ => mean,
            }
    }
}
