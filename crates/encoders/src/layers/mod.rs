//! Layers as plain structs: their tensors, and what they do with them.

mod conv;
mod linear;
mod norm;
mod unit;

pub use conv::{Conv2d, ConvConfig};
pub use linear::{Linear, LinearBias};
pub(crate) use norm::Affine;
pub use norm::{Activation, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, BatchNorm};
pub use unit::ConvNorm;
