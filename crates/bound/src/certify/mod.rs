//! Certificates: sound upper bounds of the displacement, read off the recorded graph of any encoder.
//!
//! ```text
//! attack  ≤  max_{x' ∈ B(x)} ‖f(x') − f(x)‖  ≤  certificate
//! ```

mod apply;
mod backward;
mod certificate;
#[allow(clippy::module_inception)]
mod certify;
mod ellipsoid;
mod error;
mod form;
mod interval;
mod network;
mod read;
mod relax;
mod rounding;
mod rows;
mod store;

pub use apply::{CertifiedChain, HeadReport};
pub use certificate::{Certificate, Evidence};
pub use certify::{CertifyConfig, Cost, Effort, Precision, certify};
pub use error::CertifyError;
pub use form::LinearForm;
pub use network::Network;
pub use rounding::gamma;
pub use store::{About, Certificates, FORMAT};

#[cfg(test)]
mod tests;
