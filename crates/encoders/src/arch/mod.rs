//! Architectures: each network written once over units `U`, for training, inference and intervals.

mod backbone;
mod conv_flat;
mod conv_small;
pub(crate) mod interpreter;
mod mlp;
mod resnet;
mod vgg;
mod vit;
mod wide_resnet;

pub(crate) use backbone::Backbone;
