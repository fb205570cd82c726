//! Encoders, projectors, layers and checkpoints.
//!
//! An [`Encoder`] is `f(x) = pool(… relu(norm(W ∗ (x − mean)/std)) …)`: from pixels in `[0, 1]` to
//! representations `(n, d)`. Batch norm is `γ·(x − μ)/√(σ² + ε) + β`, with `μ, σ²` of the batch in a
//! training [`ForwardContext`], which collects them, and the running ones else; [`Module::update_running_stats`] then moves
//! `r ← (1 − m)·r + m·batch`. A forward pass has no side effects.
//!
//! ```
//! use tarrl_encoders::{BATCH_NORM_MOMENTUM, Encoder, EncoderConfig, Module, ForwardContext, parameters, track};
//! use tarrl_tensor::{DType, Key, Random, Tensor, cpu, grad, value_and_grad};
//!
//! let (device, key) = (cpu(), Key::new(1));
//! let config = EncoderConfig { width: 0.25, ..Default::default() };
//! let mut encoder = Encoder::new(&config, &device, key);
//! let x = Tensor::random(&device, Random::Uniform, &[key.fold(0usize), key.fold(1usize)], &[28, 28, 1], DType::F32);
//!
//! track(&mut encoder); // every parameter is a variable now
//! let mut pass = ForwardContext::train();
//! let loss = encoder.forward(&x, &mut pass).square().sum_all();
//! let weights = parameters(&encoder);
//! let gradients = grad(&loss, &weights.iter().collect::<Vec<_>>());
//! encoder.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
//! assert_eq!(gradients.len(), 4 * 3); // four units: weights, scale, shift
//!
//! let inference = encoder.inference(); // eval mode, differentiable in the input alone: for attacks
//! let (_, slope) = value_and_grad(&x, |x| inference.forward(x).square().sum_all());
//! assert_eq!(slope.shape(), x.shape());
//! ```
//!
//! - [`Arch`] names the networks, at any width: `conv-small`, `conv-flat`, `vgg11`, `resnet18-cifar`, `resnet34-cifar`,
//!   `resnet50-cifar`, `wrn-28-10`, `wrn-34-10`, `vit-tiny`, `mlp`.
//! - [`BatchNormMode::Dual`] gives every batch norm two sets, and the [`BnBranch`] of a [`ForwardContext`] chooses between them.
//! - In [`Precision::Bf16`] an encoder on a GPU stores what it computes in half the bytes; parameters stay f32.
//! - A [`Projector`] and a [`Predictor`] map representations to the embeddings of a loss; [`ema`] updates a momentum encoder.
//! - A [`Module`] is a list of named tensors with a [`Role`] each: what optimizers, averages and
//!   [`checkpoint`]s need to know of a network. Implement it for your own networks.
//! - Initial values depend on the seed and the name of the layer ([`ParamBuilder`]), on nothing else.
#![forbid(unsafe_code)]

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

pub use config::{Arch, BatchNormMode, ConfigError, EncoderConfig};
pub use ema::{Buffers, Ema, cosine_momentum, ema};
pub use encoder::Encoder;
pub use forward_context::{BatchStatistics, BnBranch, ForwardContext};
pub use head::{Predictor, Projector};
pub use head_config::{After, PredictorConfig, ProjectorConfig};
pub use inference::InferenceEncoder;
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
