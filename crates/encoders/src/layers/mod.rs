//! Layers as plain structs: their tensors, and what they do with them.

mod branches;
mod conv;
mod conv_bn_relu;
mod layer_norm;
mod linear;
mod map;
mod norm;

pub use branches::BranchNorm;
pub use conv::{Conv2d, ConvConfig};
pub use conv_bn_relu::ConvBnRelu;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LinearBias};
pub(crate) use map::Map;
pub(crate) use norm::Affine;
pub use norm::{Activation, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, BatchNorm};
