//! Violations: what a check reports when an inequality or identity does not hold.

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
    fn violations_name_the_inequality_and_nan_is_one() {
        assert_eq!(at_most("a", 1.0, 1.0 + 1e-12), Ok(()));
        assert_eq!(at_most("a", f64::INFINITY, f64::INFINITY), Ok(()));
        let error = at_most("sample 3", 1.1, 1.0).unwrap_err();
        assert_eq!(error.to_string(), "sample 3: 1.1 is not at most 1");
        assert!(at_most("a", f64::NAN, 1.0).is_err() && at_most("a", 1.0, f64::NAN).is_err());
        assert!(equals("a", 1.0, 1.0 + 1e-9, 1e-12).is_err() && equals("a", f64::NAN, 1.0, 1.0).is_err());
    }
}
