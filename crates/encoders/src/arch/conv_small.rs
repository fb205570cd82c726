//! ConvSmall: four convolutions and global average pooling.

use super::interpreter::Interpreter;
use crate::config::EncoderConfig;
use crate::layers::{Activation, ConvBnRelu, ConvConfig};
use crate::param_builder::ParamBuilder;
use crate::precision::global_average;
use tarrl_tensor::Tensor;

/// Channels and stride of each unit at width 1.
const PLAN: [(usize, usize); 4] = [(32, 1), (64, 2), (64, 1), (128, 2)];

/// Four units in a row, then the mean over all positions. Names: `conv1`, `bn1`, …, `conv4`, `bn4`.
#[derive(Clone, Debug)]
pub(crate) struct ConvSmall<U> {
    units: Vec<U>,
}

impl ConvSmall<ConvBnRelu> {
    pub(crate) fn new(config: &EncoderConfig, params: &ParamBuilder) -> Self {
        let mut inputs = config.in_channels;
        let mut units = Vec::with_capacity(PLAN.len());
        for (i, (base, stride)) in (1..).zip(PLAN) {
            let outputs = config.channels(base);
            let builders = [&params.at(&format!("conv{i}")), &params.at(&format!("bn{i}"))];
            let conv = ConvConfig { inputs, outputs, kernel: 3, stride };
            units.push(ConvBnRelu::conv(builders, conv, config.norm, Activation::Relu));
            inputs = outputs;
        }
        ConvSmall { units }
    }
}

impl<U> ConvSmall<U> {
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, interpreter: &mut dyn Interpreter<U>) -> Tensor {
        let mut x = x.clone();
        for unit in &self.units {
            x = interpreter.unit(unit, &x);
        }
        global_average(&x)
    }

    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> ConvSmall<V> {
        ConvSmall { units: self.units.iter().map(f).collect() }
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
    config.channels(PLAN[PLAN.len() - 1].0)
}
