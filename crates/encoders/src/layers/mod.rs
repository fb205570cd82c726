//! Layers as plain structs: their tensors, and what they do with them.

mod branches;
mod conv;
mod layer_norm;
mod linear;
mod map;
mod norm;
mod unit;

pub use branches::BranchNorm;
pub use conv::{Conv2d, ConvConfig};
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LinearBias};
pub use map::Map;
pub(crate) use norm::Affine;
pub use norm::{Activation, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, BatchNorm};
pub use unit::Unit;
