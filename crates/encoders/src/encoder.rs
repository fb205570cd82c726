//! The trainable encoder: pixel normalization, then a backbone.

use crate::arch::Backbone;
use crate::arch::interpreter::Interpreter;
use crate::config::{BatchNormMode, EncoderConfig};
use crate::forward_context::{BnBranch, ForwardContext};
use crate::inference::InferenceEncoder;
use crate::layers::{ConvBnRelu, single_name};
use crate::module::{Module, Role};
use crate::param_builder::ParamBuilder;
use crate::pixels::normalize;
use crate::precision::Precision;
use std::collections::HashMap;
use tarrl_tensor::{Device, Key, Tensor};

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

    /// An encoder of zeros, to be filled by [`load_state_dict`](crate::checkpoint::load_state_dict).
    ///
    /// # Panics
    /// As [`new`](Encoder::new).
    #[track_caller]
    pub fn zeros(config: &EncoderConfig, device: &Device) -> Self {
        if let Err(error) = config.check() {
            panic!("Encoder::zeros: {error}");
        }
        let backbone = Backbone::new(config, &ParamBuilder::zeros(device));
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
        let h = self.backbone.forward(&self.precision.cast(&normalize(x, &self.config)), pass);
        h.cast(x.dtype())
    }

    /// Pixel normalization alone.
    #[track_caller]
    pub(crate) fn normalize(&self, x: &Tensor) -> Tensor {
        normalize(x, &self.config)
    }

    /// Applies the backbone to `x` with an interpreter of its units.
    #[track_caller]
    pub(crate) fn interpret(&self, x: &Tensor, interpreter: &mut dyn Interpreter<ConvBnRelu>) -> Tensor {
        self.backbone.forward(x, interpreter)
    }

    /// The dimension d of the representations.
    pub fn dim(&self) -> usize {
        self.backbone.dim(&self.config)
    }

    /// The configuration.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// A copy in eval mode for attacks and evaluation: constant parameters, batch norm folded into linear ops. Of two sets
    /// of batch norm it uses the clean one; methods that train two are usually evaluated with the adversarial one.
    pub fn inference(&self) -> InferenceEncoder {
        self.inference_branch(BnBranch::Clean)
    }

    /// As [`inference`](Encoder::inference), with the batch norms of a branch.
    pub fn inference_branch(&self, branch: BnBranch) -> InferenceEncoder {
        InferenceEncoder::new(&self.config, &self.backbone, branch, self.precision)
    }

    /// Takes over every tensor of `other`, running statistics included, as constants: where a training starts from a trained
    /// encoder. If this encoder has two sets of batch norm and `other` one, both begin as that one.
    ///
    /// # Panics
    /// If the configurations differ in more than the sets of batch norm.
    #[track_caller]
    pub fn start_from(&mut self, other: &Encoder) {
        let [own, others] = [&*self, other]
            .map(|encoder| EncoderConfig { norm: BatchNormMode::Single, ..encoder.config.clone() });
        assert!(own == others, "start_from: an encoder of {own:?} cannot start from one of {others:?}");
        let mut values = HashMap::new();
        other.visit(&mut |name, _, tensor| {
            values.insert(name.to_owned(), tensor.detach());
        });
        self.visit_mut(&mut |name, _, tensor| {
            let value = values.get(name).or_else(|| values.get(&single_name(name)));
            *tensor = value.unwrap_or_else(|| panic!("start_from: no tensor {name}")).clone();
        });
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

impl EncoderConfig {
    /// The number of floating-point values of an encoder of this configuration, which must be valid.
    pub fn value_count(&self) -> u64 {
        ParamBuilder::count_values(|params| Backbone::new(self, params))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Arch;
    use tarrl_tensor::{DType, cpu};

    /// The tensors by name.
    fn tensors(encoder: &Encoder) -> HashMap<String, Vec<f64>> {
        let mut found = HashMap::new();
        encoder.visit(&mut |name, _, tensor| {
            found.insert(name.to_owned(), tensor.array().to_f64());
        });
        found
    }

    #[test]
    fn a_start_is_taken_over_tensor_by_tensor_into_both_sets_of_dual_batch_norm() {
        let single = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
        let dual = EncoderConfig { norm: BatchNormMode::Dual, ..single.clone() };
        let mut started = Encoder::new(&single, &cpu(), Key::new(1));
        let mut value = 0.0;
        // Other values everywhere, so that a tensor that stays behind is seen.
        started.visit_mut(&mut |_, _, tensor| {
            value += 1.0;
            if tensor.dtype() != DType::U32 {
                *tensor = tensor.mul_scalar(0.0).add_scalar(value);
            }
        });
        let expected = tensors(&started);
        for config in [&single, &dual] {
            let mut encoder = Encoder::new(config, &cpu(), Key::new(2));
            encoder.start_from(&started);
            for (name, values) in tensors(&encoder) {
                assert_eq!(values, expected[&single_name(&name)], "{name}");
            }
            for branch in [BnBranch::Clean, BnBranch::Adversarial] {
                assert_eq!(tensors(&encoder.only(branch)), expected);
            }
        }
        // And a dual one starts another dual one, each set from its own.
        let other = Encoder::new(&dual, &cpu(), Key::new(3));
        let mut encoder = Encoder::new(&dual, &cpu(), Key::new(4));
        encoder.start_from(&other);
        assert_eq!(tensors(&encoder), tensors(&other));
    }

    #[test]
    #[should_panic(expected = "cannot start from one of")]
    fn a_start_of_another_configuration_is_refused() {
        let config = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
        let wide = Encoder::new(&EncoderConfig { width: 0.25, ..config.clone() }, &cpu(), Key::new(1));
        Encoder::new(&config, &cpu(), Key::new(2)).start_from(&wide);
    }

    #[test]
    fn the_declared_number_of_values_is_that_of_the_tensors() {
        for arch in Arch::ALL {
            for norm in [BatchNormMode::Single, BatchNormMode::Dual] {
                let side = if arch.needs_side() { 12 } else { 0 };
                let config = EncoderConfig { arch, width: 1.0 / 16.0, side, norm, ..Default::default() };
                if config.check().is_err() {
                    continue;
                }
                let mut values = 0;
                Encoder::new(&config, &cpu(), Key::new(0)).visit(&mut |_, _, tensor| {
                    if tensor.dtype() != DType::U32 {
                        values += tensor.array().len() as u64;
                    }
                });
                assert_eq!(config.value_count(), values, "{config:?}");
            }
        }
    }
}
