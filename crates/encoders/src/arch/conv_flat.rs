//! ConvFlat: two strided convolutions and a linear layer on the flattened map, for certified training.

use super::interpreter::Interpreter;
use crate::config::EncoderConfig;
use crate::layers::{Activation, ConvBnRelu, ConvConfig};
use crate::param_builder::ParamBuilder;
use tarrl_tensor::Tensor;

/// Channels and kernel of the convolutions at width 1, both of stride 2.
const PLAN: [(usize, usize); 2] = [(16, 5), (32, 3)];

/// Dimension of the representation at width 1.
const DIM: usize = 32;

/// Two strided units, then a matrix for all positions in PyTorch's order `(c, h, w)`. Names: `conv1`, `bn1`, `conv2`,
/// `bn2`, `fc`. No batch norm follows the matrix, so that features may be as small as they are fragile.
///
/// Intervals grow with every layer and every mean over positions, which forgets where something is: fewer layers and
/// weights for each position are what certified training needs to get anywhere (Gowal et al. 2018 flatten as well).
#[derive(Clone, Debug)]
pub(crate) struct ConvFlat<U> {
    units: Vec<U>,
    last: U,
}

impl ConvFlat<ConvBnRelu> {
    pub(crate) fn new(config: &EncoderConfig, params: &ParamBuilder) -> Self {
        let (mut inputs, mut side) = (config.in_channels, config.side);
        let mut units = Vec::with_capacity(PLAN.len());
        for (i, (base, kernel)) in (1..).zip(PLAN) {
            let outputs = config.channels(base);
            let builders = [&params.at(&format!("conv{i}")), &params.at(&format!("bn{i}"))];
            let conv = ConvConfig { inputs, outputs, kernel, stride: 2 };
            units.push(ConvBnRelu::conv(builders, conv, config.norm, Activation::Relu));
            (inputs, side) = (outputs, side.div_ceil(2));
        }
        ConvFlat {
            units,
            last: ConvBnRelu::linear_only(&params.at("fc"), [side * side * inputs, dim(config)]),
        }
    }
}

impl<U> ConvFlat<U> {
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, interpreter: &mut dyn Interpreter<U>) -> Tensor {
        let mut x = x.clone();
        for unit in &self.units {
            x = interpreter.unit(unit, &x);
        }
        let n = x.shape()[0];
        interpreter.unit(&self.last, &x.permute(&[0, 3, 1, 2]).reshape([n, x.shape().len() / n]))
    }

    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> ConvFlat<V> {
        ConvFlat { units: self.units.iter().map(&f).collect(), last: f(&self.last) }
    }

    pub(crate) fn units(&self) -> Vec<&U> {
        self.units.iter().chain([&self.last]).collect()
    }

    pub(crate) fn units_mut(&mut self) -> Vec<&mut U> {
        self.units.iter_mut().chain([&mut self.last]).collect()
    }
}

/// The dimension of the representation.
pub(crate) fn dim(config: &EncoderConfig) -> usize {
    config.channels(DIM)
}
