//! MLP: a multilayer perceptron on pixels.

use super::interpreter::Interpreter;
use crate::config::EncoderConfig;
use crate::layers::ConvBnRelu;
use crate::param_builder::ParamBuilder;
use tarrl_tensor::Tensor;

/// Units of each layer at width 1.
const LAYERS: [usize; 3] = [512, 512, 512];

/// Three times a matrix without bias, batch norm and ReLU, on the pixels in PyTorch's order `(c, h, w)`.
/// Names: `layers.0` (matrix), `layers.1` (batch norm), `layers.3`, …, counted as PyTorch's `Sequential` does.
#[derive(Clone, Debug)]
pub(crate) struct Mlp<U> {
    units: Vec<U>,
}

impl Mlp<ConvBnRelu> {
    pub(crate) fn new(config: &EncoderConfig, params: &ParamBuilder) -> Self {
        let mut inputs = config.side * config.side * config.in_channels;
        let unit = |(i, base): (usize, usize)| {
            let outputs = config.channels(base);
            let [linear, norm] = [3 * i, 3 * i + 1].map(|i| params.at(&format!("layers.{i}")));
            let unit = ConvBnRelu::linear([&linear, &norm], [inputs, outputs], config.norm);
            inputs = outputs;
            unit
        };
        Mlp { units: LAYERS.into_iter().enumerate().map(unit).collect() }
    }
}

impl<U> Mlp<U> {
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, interpreter: &mut dyn Interpreter<U>) -> Tensor {
        let n = x.shape()[0];
        let mut x = x.permute(&[0, 3, 1, 2]).reshape([n, x.shape().len() / n]);
        for unit in &self.units {
            x = interpreter.unit(unit, &x);
        }
        x
    }

    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> Mlp<V> {
        Mlp { units: self.units.iter().map(f).collect() }
    }

    pub(crate) fn units(&self) -> Vec<&U> {
        self.units.iter().collect()
    }

    pub(crate) fn units_mut(&mut self) -> Vec<&mut U> {
        self.units.iter_mut().collect()
    }
}

/// The dimension of the representation.
pub(crate) fn dim(config: &EncoderConfig) -> usize {
    config.channels(LAYERS[LAYERS.len() - 1])
}
