//! Errors of heads and diagnostics: what cannot be fitted to features, or computed of them.

use tarrl_tensor::{DType, Tensor};

/// Why features have no head, no prediction or no diagnostics.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// A feature that is NaN or infinite.
    #[error("the features of sample {sample} are not finite; check the encoder and its training")]
    NotFinite {
        /// The first such sample.
        sample: usize,
    },
    /// Fewer than two classes.
    #[error("a head of {0} classes decides nothing; take labels of two at least")]
    Classes(usize),
    /// No sample can be held out to choose a weight of the squared norm.
    #[error(
        "no class has the two samples that a validation part needs; give more samples, or one weight of the squared norm"
    )]
    Validation,
    /// A class without a mean.
    #[error("class {class} of {classes} has no sample; give one of each")]
    NoSample {
        /// The class.
        class: usize,
        /// The number of classes.
        classes: usize,
    },
    /// A class with fewer samples than are to be drawn of it.
    #[error("class {class} has {found} samples, and {wanted} are to be drawn; take a smaller share")]
    TooFew {
        /// The class.
        class: usize,
        /// Its samples.
        found: usize,
        /// How many are to be drawn.
        wanted: usize,
    },
    /// A setting out of its range.
    #[error("{field} is {value}; {range}")]
    Setting {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
}

/// Fails at the first row of `features (n, d)` that is not finite.
pub(crate) fn check_finite(features: &Tensor) -> Result<(), FitError> {
    // A product with zero is zero, or NaN of what is not finite: one number for each row comes to the host.
    let sums = features.cast(DType::F64).mul_scalar(0.0).sum(1).array().to_f64();
    match sums.iter().position(|sum| *sum != 0.0) {
        Some(sample) => Err(FitError::NotFinite { sample }),
        None => Ok(()),
    }
}

/// Fails at the first weight of the squared norm that is not one: finite, not negative, and positive where a solution
/// needs it.
pub(crate) fn check_weights(l2: &[f64], allow_zero: bool) -> Result<(), FitError> {
    let allowed = |w: f64| w.is_finite() && (w > 0.0 || allow_zero && w == 0.0);
    match l2.iter().find(|&&w| !allowed(w)) {
        Some(&value) if allow_zero => {
            Err(FitError::Setting { field: "l2", value, range: "it must be finite and not negative" })
        }
        Some(&value) => {
            Err(FitError::Setting { field: "l2", value, range: "it must be finite and positive" })
        }
        None => Ok(()),
    }
}
