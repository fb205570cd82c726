#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! - [`Arch`] names the networks, at any width: `conv-small`, `conv-flat`, `vgg11` to `vgg19`, `resnet18`, `resnet34` and
//!   `resnet50` for large images, `resnet18-cifar`, `resnet34-cifar` and `resnet50-cifar` for small ones, `wrn-28-10`,
//!   `wrn-34-10`, `vit-tiny`, `mlp`. A [`Variant`] has another depth, patch, number of heads or stem than published, or is an image
//!   tower of CLIP ([`ClipTower`]).
//! - [`BatchNormMode::Dual`] gives every batch norm two sets, and the [`BnBranch`] of a [`ForwardContext`] chooses between them.
//! - In [`Precision::Bf16`] an encoder on a GPU stores what it computes in half the bytes; parameters stay f32.
//! - A [`Projector`] and a [`Predictor`] map representations to the embeddings of a loss; [`ema`] updates a momentum encoder.
//! - A [`Module`] is a list of named tensors with a [`Role`] each: what optimizers, averages and
//!   [`checkpoint`]s need to know of a network. Implement it for your own networks.
//! - Initial values depend on the seed and the name of the layer ([`ParamBuilder`]), on nothing else.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod arch;
pub mod checkpoint;
mod config;
mod ema;
mod encoder;
mod forward_context;
mod head;
mod head_config;
mod inference;
mod interval_displacement;
mod layers;
mod module;
mod operation_counts;
mod param_builder;
mod pixels;
mod precision;
mod spectral_norms;
mod variant;

pub use config::{Arch, BatchNormMode, ConfigError, EncoderConfig};
pub use ema::{Buffers, Ema, cosine_momentum, ema};
pub use encoder::Encoder;
pub use forward_context::{BatchStatistics, BnBranch, ForwardContext};
pub use head::{Predictor, Projector};
pub use head_config::{After, PredictorConfig, ProjectorConfig};
pub use inference::{InferenceEncoder, shifted};
pub use interval_displacement::IntervalDisplacement;
pub use layers::{
    Activation, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, BatchNorm, Conv2d, ConvConfig, Linear, LinearBias,
};
pub use module::{
    Module, Role, buffers, cast, detach, parameter_count, parameters, set_buffers, set_parameters, track,
};
pub use operation_counts::{convolutions, encoder_multiply_adds, multiply_adds};
pub use param_builder::ParamBuilder;
pub use precision::{Precision, PrecisionError};
pub use variant::{ClipTower, Variant};
