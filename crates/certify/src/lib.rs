//! Certificates: sound upper bounds of the displacement of an encoder, from its recorded graph.
//!
//! ```text
//! attack  ≤  max_{x' ∈ B(x)} ‖f(x') − f(x)‖  ≤  certificate
//! ```
//!
//! They are made once for an encoder and a set of samples, without labels and without a task; a head that is trained
//! later is certified by matrix products alone.
//!
//! ```
//! use tarrl_attacks::Threat;
//! use tarrl_certify::{CertifyConfig, Evidence, Network, certify};
//! use tarrl_tensor::{Tensor, cpu};
//!
//! let device = cpu();
//! let w = Tensor::new(&device, [2, 3], &[1.0f32, 1.0, -1.0, 1.0, -1.0, 1.0]);
//! let v = Tensor::new(&device, [3, 1], &[1.0f32, -1.0, 2.0]);
//! let encoder = |x: &Tensor| x.matmul(&w).relu().matmul(&v); // any closure of ops with a rule
//!
//! let x = Tensor::new(&device, [1, 2], &[0.75f32, 0.5]); // (n, …), pixels in [0, 1]
//! let network = Network::trace(&encoder, &x)?;
//! let config = CertifyConfig { threat: Threat::linf(0.05), ..CertifyConfig::default() };
//! let (certificates, _cost) = certify(&network, &x, &config)?;
//! // Only the first unit and the second are active around x: Δ = δ₁ + δ₂ − (δ₁ − δ₂) = 2 δ₂.
//! assert!((certificates[0].radius() - 0.1).abs() < 1e-6);
//! assert!((certificates[0].support(&[-3.0], Evidence::All) - 0.3).abs() < 1e-6);
//! # Ok::<(), tarrl_certify::CertifyError>(())
//! ```
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

mod backward_substitution;
mod batch_certifier;
mod box_and_ball;
mod certificate;
mod certificate_file;
mod certifier;
mod coefficient_patch;
mod config;
mod ellipsoid;
mod error;
mod graph_tracer;
mod head_report;
mod interval_propagation;
mod lipschitz;
mod network;
mod relu_relaxation;
mod rounding;
mod sector;
pub mod smoothing;
mod vector;
mod zonotope;

pub use certificate::{Certificate, Evidence};
pub use certificate_file::{Certificates, Provenance};
pub use certifier::certify;
pub use config::{CertifyConfig, Cost, Effort, Precision, Slopes};
pub use error::CertifyError;
pub use head_report::{CertifiedChain, HeadReport};
pub use network::Network;
pub use zonotope::Zonotope;

#[cfg(test)]
mod tests;
