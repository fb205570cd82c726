//! Encoders, projectors, the layers that they are made of, and checkpoints of them.
//!
//! An [`Encoder`] is `f(x) = pool(… relu(norm(W ∗ (x − mean)/std)) …)`: from pixels in `[0, 1]` to
//! representations `(n, d)`. Batch norm is `γ·(x − μ)/√(σ² + ε) + β`, with `μ, σ²` of the batch in a
//! training [`ForwardContext`], which collects them, and the running ones else; [`Module::update_running_stats`] then moves
//! `r ← (1 − m)·r + m·batch`. So a forward pass changes nothing, and nothing is hidden.
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
//! let frozen = encoder.inference(); // for attacks: inference, and differentiable in the input alone
//! let (_, slope) = value_and_grad(&x, |x| frozen.forward(x).square().sum_all());
//! assert_eq!(slope.shape(), x.shape());
//! ```
//!
//! - [`Arch`] names the networks, at any width: `conv-small`, `conv-flat`, `vgg11`, `resnet18-cifar`, `resnet34-cifar`,
//!   `resnet50-cifar`, `wrn-28-10`, `wrn-34-10`, `vit-tiny`, `mlp`.
//! - [`BatchNormMode::Dual`] gives every batch norm two sets, and the [`BnBranch`] of a [`ForwardContext`] chooses between them.
//! - In [`Precision::Bf16`] an encoder on a GPU stores what it computes in half the bytes; parameters stay f32.
//! - A [`Projector`] and a [`Predictor`] stand between representations and a loss; [`ema`] lets a copy of them follow.
//! - A [`Module`] is a list of named tensors with a [`Role`] each: what optimizers, averages and
//!   [`checkpoint`]s need to know of a network. Own networks implement it, from the same layers or others.
//! - Initial values depend on the seed and the name of the layer ([`ParamBuilder`]), on nothing else.
#![forbid(unsafe_code)]

mod backbone;
pub mod checkpoint;
mod config;
mod conv_flat;
mod conv_small;
mod encoder;
mod forward_context;
mod head;
mod head_config;
mod inference;
mod interval;
mod layers;
mod mlp;
mod module;
mod momentum;
mod operation_counts;
mod param_builder;
mod precision;
mod resnet;
mod vgg;
mod vit;
mod walk;
mod wide_resnet;

pub use config::{Arch, BatchNormMode, ConfigError, EncoderConfig};
pub use encoder::Encoder;
pub use forward_context::{BatchStatistics, BnBranch, ForwardContext};
pub use head::{Predictor, Projector};
pub use head_config::{After, PredictorConfig, ProjectorConfig};
pub use inference::InferenceEncoder;
pub use interval::IntervalDisplacement;
pub use layers::{
    Activation, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, BatchNorm, BranchNorm, Conv2d, ConvBnRelu, ConvConfig,
    LayerNorm, Linear, LinearBias,
};
pub use module::{
    Module, Role, buffers, cast, detach, parameter_count, parameters, set_buffers, set_parameters, track,
};
pub use momentum::{Buffers, Ema, cosine_momentum, ema};
pub use operation_counts::{convolutions, encoder_multiply_adds, multiply_adds};
pub use param_builder::ParamBuilder;
pub use precision::Precision;
