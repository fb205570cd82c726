//! Randomized smoothing of encoders, Theorems S1 to S5 of docs/certificates.md: certificates of `F(x) = E f(x + σξ)` from
//! samples of `f` under Gaussian noise, for any `f`.

mod center;
mod covariance;
mod normal;
mod samples;
mod total_variation;

pub use center::CenterCertificate;
pub use covariance::{CovarianceCertificate, growth};
pub use samples::{SmoothingConfig, SmoothingSamples, draw_smoothing_samples};
pub use total_variation::{total_variation_cosine, total_variation_radius};
