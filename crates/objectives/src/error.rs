//! Errors: settings of a loss that are out of range, and a stored state that does not fit.

use tarrl_tensor::{DType, Shape};

/// A setting of a loss that is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// The value must be positive and finite.
    #[error("the objective's {name} is {value}; give a positive number")]
    NotPositive {
        /// The setting, as a method file names it.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The value must be finite and not negative.
    #[error("the objective's {name} is {value}; give 0 or a positive number")]
    Negative {
        /// The setting, as a method file names it.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The value must lie in `[0, 1)`.
    #[error("the objective's {name} is {value}; give a number in [0, 1)")]
    NotAFraction {
        /// The setting, as a method file names it.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The count is too small.
    #[error("the objective's {name} is {value}; give at least {least}")]
    TooFew {
        /// The setting, as a method file names it.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The smallest value allowed.
        least: usize,
    },
}

/// A stored state that cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A tensor is not there.
    #[error("{name} is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A tensor has another shape or type.
    #[error("{name} has shape {found:?}, not {expected:?}, or type {found_type:?}, not {expected_type:?}")]
    Mismatch {
        /// Its name.
        name: &'static str,
        /// The stored shape.
        found: Box<Shape>,
        /// The shape of the present state.
        expected: Box<Shape>,
        /// The stored type.
        found_type: DType,
        /// The type of the present state.
        expected_type: DType,
    },
    /// A position lies outside the queue.
    #[error("next is {next}, beyond a queue of {length}")]
    OutOfRange {
        /// The stored position.
        next: usize,
        /// The length of the queue.
        length: usize,
    },
}

/// `Ok` if `value` is positive and finite.
pub(crate) fn positive(name: &'static str, value: f64) -> Result<(), ObjectiveError> {
    let holds = value > 0.0 && value.is_finite();
    if holds { Ok(()) } else { Err(ObjectiveError::NotPositive { name, value }) }
}

/// `Ok` if `value` is finite and not negative.
pub(crate) fn not_negative(name: &'static str, value: f64) -> Result<(), ObjectiveError> {
    let holds = value >= 0.0 && value.is_finite();
    if holds { Ok(()) } else { Err(ObjectiveError::Negative { name, value }) }
}

/// `Ok` if `value` lies in `[0, 1)`.
pub(crate) fn fraction(name: &'static str, value: f64) -> Result<(), ObjectiveError> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(ObjectiveError::NotAFraction { name, value }) }
}

/// `Ok` if `value` is `least` or more.
pub(crate) fn at_least(least: usize, name: &'static str, value: usize) -> Result<(), ObjectiveError> {
    if value >= least { Ok(()) } else { Err(ObjectiveError::TooFew { name, value, least }) }
}
