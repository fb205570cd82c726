//! The encoder: normalization of the pixels, then a network.

use crate::backbone::Backbone;
use crate::config::{BatchNormMode, EncoderConfig};
use crate::forward_context::{BnBranch, ForwardContext};
use crate::inference::InferenceEncoder;
use crate::layers::ConvBnRelu;
use crate::module::{Module, Role};
use crate::param_builder::ParamBuilder;
use crate::precision::Precision;
use crate::walk::Walk;
use tarrl_tensor::{Array, Device, Key, Tensor};

/// `f`: from pixels in `[0, 1]` to representations.
///
/// The pixels are normalized inside, so perturbations are measured in pixels wherever the encoder is used.
#[derive(Clone, Debug)]
pub struct Encoder {
    config: EncoderConfig,
    backbone: Backbone<ConvBnRelu>,
    precision: Precision,
}

impl Encoder {
    /// An encoder with initial values drawn from `key`, as F32 constants; see [`track`](crate::track).
    ///
    /// # Panics
    /// If [`EncoderConfig::check`] finds a fault.
    #[track_caller]
    pub fn new(config: &EncoderConfig, device: &Device, key: Key) -> Self {
        if let Err(error) = config.check() {
            panic!("Encoder::new: {error}");
        }
        let backbone = Backbone::new(config, &ParamBuilder::new(device, key));
        Encoder { config: config.clone(), backbone, precision: Precision::default() }
    }

    /// The same encoder, computing in another type; see [`Precision::check`].
    pub fn with_precision(self, precision: Precision) -> Self {
        Encoder { precision, ..self }
    }

    /// From images `(n, h, w, c)` with pixels in `[0, 1]` to representations `(n, d)`.
    ///
    /// # Panics
    /// If the images have another number of channels, another side where that matters, or another element type than
    /// the parameters.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, pass: &mut ForwardContext) -> Tensor {
        let h = self.backbone.forward(&self.precision.of(&normalize(x, &self.config)), pass);
        h.cast(x.dtype())
    }

    /// The pixels as the first unit takes them.
    #[track_caller]
    pub(crate) fn normalize(&self, x: &Tensor) -> Tensor {
        normalize(x, &self.config)
    }

    /// Sends `x` through the arrangement of units.
    #[track_caller]
    pub(crate) fn walk(&self, x: &Tensor, walk: &mut dyn Walk<ConvBnRelu>) -> Tensor {
        self.backbone.forward(x, walk)
    }

    /// The dimension d of the representations.
    pub fn dim(&self) -> usize {
        self.backbone.dim(&self.config)
    }

    /// What it was built from.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// A copy for attacks and evaluation: inference only, constants only, batch norm folded away. Of two sets of batch
    /// norm the clean one; methods that train two are usually judged by the other.
    pub fn inference(&self) -> InferenceEncoder {
        self.frozen_branch(BnBranch::Clean)
    }

    /// As [`frozen`](Encoder::inference), with the batch norms of a branch.
    pub fn frozen_branch(&self, branch: BnBranch) -> InferenceEncoder {
        InferenceEncoder::new(&self.config, &self.backbone, branch, self.precision)
    }

    /// The encoder with the batch norms of one branch alone, as constants: what is kept of a dual one after training.
    pub fn only(&self, branch: BnBranch) -> Self {
        let config = EncoderConfig { norm: BatchNormMode::Single, ..self.config.clone() };
        let backbone = self.backbone.map(|unit| unit.only(branch));
        let mut encoder = Encoder { config, backbone, precision: self.precision };
        crate::detach(&mut encoder);
        encoder
    }
}

impl Module for Encoder {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.backbone.visit(f);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.backbone.visit_mut(f);
    }
}

/// `(x − mean) / std` for each channel.
#[track_caller]
pub(crate) fn normalize(x: &Tensor, config: &EncoderConfig) -> Tensor {
    let c = config.in_channels;
    assert!(
        x.shape().rank() == 4 && x.shape()[3] == c,
        "encoder {}: images {:?}, expected (n, h, w, {c})",
        config.arch.name(),
        x.shape()
    );
    let side = config.side;
    assert!(
        !config.arch.needs_side() || x.shape()[1..3] == [side, side],
        "encoder {}: images {:?}, expected (n, {side}, {side}, {c})",
        config.arch.name(),
        x.shape()
    );
    if config.mean.is_empty() && config.std.is_empty() {
        return x.clone();
    }
    let value = |values: &[f64], i: usize, absent: f64| values.get(i).copied().unwrap_or(absent);
    let scale: Vec<f64> = (0..c).map(|i| 1.0 / value(&config.std, i, 1.0)).collect();
    let shift: Vec<f64> = (0..c).map(|i| -value(&config.mean, i, 0.0) * scale[i]).collect();
    let vector = |values: &[f64]| Tensor::from(Array::table(x.device(), [c], values)).cast(x.dtype());
    x.channel_affine(&vector(&scale), &vector(&shift), false)
}
