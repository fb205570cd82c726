//! Divergences: how far a representation moves, and what its scale is measured against.

mod custom_ops;
mod distances;
mod gaussian_kl;
mod measure;
mod reference;
mod scale;
mod task_constant;

pub use distances::Divergence;
pub use gaussian_kl::diagonal_gaussian_kl;
pub use measure::Measure;
#[cfg(test)]
pub(crate) use reference::{VOLUME_RIDGE, nearest_distances, pair_distance, volume_deviation};
pub use reference::{spread, total_deviation};
pub use scale::Scale;
pub use task_constant::TaskConstant;
