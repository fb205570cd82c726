//! VNN-LIB: queries that other verifiers answer too, written, read and decided.
//!
//! A [`Query`] asks for an input in a box whose output has a property. [`displacement_claim`] and [`classification_claim`]
//! ask for a point that would refute a certificate; [`verify`] answers queries about ONNX files.
//!
//! ```
//! use tarrl_vnnlib::Query;
//!
//! let query = Query::parse(
//!     "(vnnlib-version <2.0>)
//!      (declare-network f (declare-input X real [1,1,1,1]) (declare-output Y real [1,1]))
//!      (assert (>= X[0,0,0,0] 0.25))
//!      (assert (<= X[0,0,0,0] 0.5))
//!      (assert (>= Y[0,0] 0.75))",
//! )?;
//! assert!(query.is_satisfied(&[0.5], &[0.8]) && !query.is_satisfied(&[0.6], &[0.8]));
//! # Ok::<(), tarrl_vnnlib::QueryError>(())
//! ```

#![forbid(unsafe_code)]

mod claims;
mod error;
mod parse;
mod query;
mod tokens;
mod verify;
mod write;

#[cfg(test)]
mod tests;

pub use claims::{Claim, MARGIN, classification_claim, displacement_claim};
pub use error::QueryError;
pub use query::{Comparison, Query, Variable, Version};
pub use verify::{Answer, VerifyError, VerifyOptions, verify};
pub use write::number;
