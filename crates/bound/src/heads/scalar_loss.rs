//! Convex losses of one number: squared, absolute, Huber, pinball, logistic, hinge. Theorem B3 (docs/theory.md).

use crate::numerics::stable::{largest, softplus};

/// A convex loss of one number: of the error `prediction − target`, or of the margin `± prediction`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScalarLoss {
    /// `e²`
    Squared,
    /// `|e|`
    Absolute,
    /// `e²/2` up to the given size, then linear with that slope.
    Huber(f64),
    /// The loss of the given quantile `t`: `t` per unit below the target, `1 − t` per unit above.
    Pinball(f64),
    /// `ln(1 + e^{−m})`
    Logistic,
    /// `max(0, 1 − m)`
    Hinge,
}

impl ScalarLoss {
    /// What the loss is a function of: the error, or for the logistic and hinge loss the margin
    /// `prediction · sign(target)`.
    pub fn at(self, prediction: f64, target: f64) -> f64 {
        match self {
            ScalarLoss::Logistic | ScalarLoss::Hinge => prediction * target.signum(),
            _ => prediction - target,
        }
    }

    /// The loss of an error or margin.
    pub fn value(self, at: f64) -> f64 {
        match self {
            ScalarLoss::Squared => at * at,
            ScalarLoss::Absolute => at.abs(),
            ScalarLoss::Huber(k) if at.abs() <= k => 0.5 * at * at,
            ScalarLoss::Huber(k) => k * (at.abs() - 0.5 * k),
            ScalarLoss::Pinball(t) => largest([-t * at, (1.0 - t) * at].into_iter()),
            ScalarLoss::Logistic => softplus(-at),
            ScalarLoss::Hinge => largest([0.0, 1.0 - at].into_iter()),
        }
    }

    /// The largest loss if the error or margin moves by at most `shift`: a convex function is largest at an
    /// end of an interval, so this is attained.
    pub fn bound(self, at: f64, shift: f64) -> f64 {
        largest([self.value(at - shift), self.value(at + shift)].into_iter())
    }

    /// The Lipschitz constant; the squared error has none. The loss rises by at most it times the shift.
    pub fn lipschitz(self) -> Option<f64> {
        match self {
            ScalarLoss::Squared => None,
            ScalarLoss::Absolute | ScalarLoss::Logistic | ScalarLoss::Hinge => Some(1.0),
            ScalarLoss::Huber(k) => Some(k),
            ScalarLoss::Pinball(t) => Some(t.max(1.0 - t)),
        }
    }
}
