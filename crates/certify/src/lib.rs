#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! - [`Network::trace`] supports convolutions, products, affine maps, ReLU, residual sums, average pools and a final l2
//!   normalization; an op without a rule is refused by name.
//! - [`certify()`] combines interval bound propagation, backward substitution with linear ReLU relaxations (as CROWN) and
//!   zonotopes, by [`Effort`]. Each sample gets a [`Certificate`]: a radius, a box, and a [`Zonotope`] with a support
//!   function in every direction. Rounding is covered for the [`Precision`] asked for.
//! - [`Certificates`] are stored in a file, bound to encoder and samples; applied to a head they give a [`HeadReport`].
//! - [`smoothing`] certifies encoders too deep for linear relaxations: randomized smoothing, by sampling.
//!
//! The theorems, R1 to S5, are stated and proved in `docs/certificates.md`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod backward_substitution;
mod batch_certifier;
mod box_and_ball;
mod certificate;
mod certificate_file;
mod certifier;
mod coefficient_lines;
mod config;
mod ellipsoid;
mod error;
mod graph_tracer;
mod head_report;
mod interval_propagation;
mod line_convolution;
mod linear_maps;
mod lipschitz;
mod network;
mod optimized_slopes;
mod parallel;
mod relu_relaxation;
mod rounding;
mod sector;
mod slope_tape;
pub mod smoothing;
mod vector;
mod zonotope;

pub use certificate::{Certificate, Evidence};
pub use certificate_file::{Certificates, Provenance};
pub use certifier::{certify, certify_until};
pub use config::{CertifyConfig, Cost, Effort, Precision, Slopes};
pub use error::CertifyError;
pub use head_report::{CertifiedChain, HeadReport};
pub use network::Network;
pub use zonotope::Zonotope;

#[cfg(test)]
mod tests;
