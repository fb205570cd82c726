//! Checks that anyone can point at an encoder of their own: a closure from inputs to representations.
//!
//! Each returns a [`Violation`] that says what was above what, so that it can stand in a property test (with
//! the strategies of the feature `proptest`), in a unit test, or in a program. A theorem that fails a check
//! means an error in the program: an encoder that is not a function of one row, a certificate that is none.
//!
//! ```
//! use tarrl_bound::{LinearHead, check};
//! use tarrl_tensor::{Tensor, cpu};
//!
//! let w = Tensor::new(&cpu(), [2, 2], &[1.0, -1.0, 0.5, 2.0]);
//! let encoder = |x: &Tensor| x.matmul(&w).tanh();
//! let x = Tensor::new(&cpu(), [1, 2], &[0.2, 0.7]);
//! let moved = Tensor::new(&cpu(), [1, 2], &[0.3, 0.6]);
//! let head = LinearHead::new(2, 2, vec![1.0, 0.0, 0.0, 1.0], vec![0.0; 2]);
//! check::bound_holds(&encoder, &head, &x, &moved, &[1])?;
//! # Ok::<(), check::Violation>(())
//! ```

mod encoders;
mod invariance;
#[cfg(feature = "proptest")]
pub mod strategies;

pub use encoders::{
    bound_holds, displacements, rises_with_epsilon, rows_are_independent, sandwich_holds, vanishes_at_zero,
};
pub use invariance::{head_ignores_common_row, length_ignores_linear_map};

/// What does not hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Violation {
    /// A quantity is above its bound, or one of them is not a number.
    #[error("{what}: {found} is not at most {bound}")]
    Above {
        /// The inequality, and for which sample.
        what: String,
        /// Its left side.
        found: f64,
        /// Its right side.
        bound: f64,
    },
    /// A quantity is not what it must equal.
    #[error("{what}: {found} is not {wanted}")]
    Differs {
        /// The identity, and for which sample.
        what: String,
        /// Its value.
        found: f64,
        /// What it should be.
        wanted: f64,
    },
    /// A certificate was given to a point that is misclassified.
    #[error("{0}: certified, and yet misclassified")]
    Flipped(String),
}

/// `found ≤ bound`, up to the rounding of sums of at most a thousand terms in f64: 1e-11 of their size.
///
/// # Errors
/// If it is not so, or one of them is not a number.
pub fn at_most(what: &str, found: f64, bound: f64) -> Result<(), Violation> {
    let slack = 1e-11 * (1.0 + found.abs() + bound.abs());
    // Two infinities are in order and have no slack.
    if found <= bound || found <= bound + slack {
        return Ok(());
    }
    Err(Violation::Above { what: what.to_owned(), found, bound })
}

/// `found = wanted` up to a relative error.
///
/// # Errors
/// If it is not so, or one of them is not a number.
pub fn equals(what: &str, found: f64, wanted: f64, relative: f64) -> Result<(), Violation> {
    if (found - wanted).abs() <= relative * (found.abs() + wanted.abs()) {
        return Ok(());
    }
    Err(Violation::Differs { what: what.to_owned(), found, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_seen_and_told() {
        assert_eq!(at_most("a", 1.0, 1.0 + 1e-12), Ok(()));
        assert_eq!(at_most("a", f64::INFINITY, f64::INFINITY), Ok(()));
        let error = at_most("sample 3", 1.1, 1.0).unwrap_err();
        assert_eq!(error.to_string(), "sample 3: 1.1 is not at most 1");
        assert!(at_most("a", f64::NAN, 1.0).is_err() && at_most("a", 1.0, f64::NAN).is_err());
        assert!(equals("a", 1.0, 1.0 + 1e-9, 1e-12).is_err() && equals("a", f64::NAN, 1.0, 1.0).is_err());
    }
}
