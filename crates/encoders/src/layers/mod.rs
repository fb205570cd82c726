//! Layers: plain structs of named tensors with a forward function.

mod batch_norm;
mod branch_norm;
mod conv;
mod conv_bn_relu;
mod layer_norm;
mod linear;
mod linear_op;
mod shard_norm;

pub(crate) use batch_norm::Affine;
pub use batch_norm::{Activation, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, BatchNorm};
pub(crate) use branch_norm::{BranchNorm, single_name};
pub use conv::{Conv2d, ConvConfig};
pub(crate) use conv_bn_relu::ConvBnRelu;
pub(crate) use layer_norm::LayerNorm;
pub use linear::{Linear, LinearBias};
pub(crate) use linear_op::LinearOp;
