//! Certificates: sound upper bounds of the displacement, read off the recorded graph of any encoder.
//!
//! ```text
//! attack  ≤  max_{x' ∈ B(x)} ‖f(x') − f(x)‖  ≤  certificate
//! ```
//!
//! They are made once for an encoder and a set of samples, with no label and no task; a head that comes later
//! is then certified by multiplication alone.
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
//! let network = Network::read(&encoder, &x)?;
//! let config = CertifyConfig { threat: Threat::linf(0.05), ..CertifyConfig::default() };
//! let (certificates, _cost) = certify(&network, &x, &config)?;
//! // Only the first unit and the second are active around x: Δ = δ₁ + δ₂ − (δ₁ − δ₂) = 2 δ₂.
//! assert!((certificates[0].radius() - 0.1).abs() < 1e-6);
//! assert!((certificates[0].support(&[-3.0], Evidence::All) - 0.3).abs() < 1e-6);
//! # Ok::<(), tarrl_certify::CertifyError>(())
//! ```
//!
//! - [`Network::read`] understands convolutions, products, affines, ReLU, branches, average pools and a final l2
//!   normalization; an op without a rule is refused by name.
//! - [`certify()`] spends an [`Effort`] and gives a [`Certificate`] for each sample: a radius, a box, and a
//!   [`Zonotope`] that knows every direction. Rounding is covered for the [`Precision`] asked for.
//! - [`Certificates`] are their bytes in a file, bound to encoder and samples, and what they say of linear and
//!   other heads: a [`HeadReport`].
//! - [`smoothed_certificate`] is for encoders too deep for all that: certificates of the smoothed encoder, by sampling.
//!
//! The theorems, R1 to S5, are stated and proved in `docs/certificates.md`.

#![forbid(unsafe_code)]

mod apply;
mod backward;
mod center_smoothing;
mod certificate;
mod certify;
mod config;
mod ellipsoid;
mod error;
mod interval;
mod lipschitz;
mod network;
mod read;
mod relax;
mod rounding;
mod rows;
mod sector;
mod smoothing;
mod store;
mod zonotope;

pub use apply::{CertifiedChain, HeadReport};
pub use center_smoothing::CenterCertificate;
pub use certificate::{Certificate, Evidence};
pub use certify::certify;
pub use config::{CertifyConfig, Cost, Effort, Precision, Slopes};
pub use error::CertifyError;
pub use network::Network;
pub use rounding::gamma;
pub use smoothing::{
    CovarianceCertificate, SmoothedCertificate, SmoothingConfig, growth, smoothed_certificate,
    total_variation_cosine, total_variation_radius,
};
pub use store::{About, Certificates, FORMAT};
pub use zonotope::Zonotope;

#[cfg(test)]
mod tests;
