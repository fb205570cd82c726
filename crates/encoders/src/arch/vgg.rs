//! VGG with batch norm (Simonyan & Zisserman 2015, configurations A, B, D and E), for small images.

use super::interpreter::Interpreter;
use crate::config::{Arch, EncoderConfig};
use crate::layers::{Activation, ConvBnRelu, ConvConfig};
use crate::param_builder::ParamBuilder;
use crate::precision::global_average;
use tarrl_tensor::{Pool, Tensor};

/// Channels of each stage at width 1; a max-pool of two by two ends a stage.
const STAGES: [usize; 5] = [64, 128, 256, 512, 512];

/// Convolutions of each stage.
fn counts(arch: Arch) -> [usize; 5] {
    match arch {
        Arch::Vgg13 => [2, 2, 2, 2, 2],
        Arch::Vgg16 => [2, 2, 3, 3, 3],
        Arch::Vgg19 => [2, 2, 4, 4, 4],
        _ => [1, 1, 2, 2, 2],
    }
}

/// 3×3 convolutions with biases, eight of them in VGG-11, and the mean over the positions that are left: of 32×32 pixels one. A map of a
/// single row or column, as 28×28 pixels leave it before the last stage, is not pooled again.
///
/// Names: `features.0` (convolution), `features.1` (batch norm), `features.4`, …, counted as PyTorch's `Sequential` does.
#[derive(Clone, Debug)]
pub(crate) struct Vgg<U> {
    stages: Vec<Vec<U>>,
}

impl Vgg<ConvBnRelu> {
    pub(crate) fn new(config: &EncoderConfig, params: &ParamBuilder) -> Self {
        let mut inputs = config.in_channels;
        let mut index = 0;
        let mut stages = Vec::new();
        for (base, count) in STAGES.into_iter().zip(counts(config.arch)) {
            let mut units = Vec::new();
            for _ in 0..count {
                let outputs = config.channels(base);
                let [conv, norm] = [index, index + 1].map(|i| params.at(&format!("features.{i}")));
                let shape = ConvConfig { inputs, outputs, kernel: 3, stride: 1 };
                units.push(ConvBnRelu::conv_with_bias([&conv, &norm], shape, config.norm, Activation::Relu));
                inputs = outputs;
                index += 3;
            }
            stages.push(units);
            index += 1;
        }
        Vgg { stages }
    }
}

impl<U> Vgg<U> {
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, interpreter: &mut dyn Interpreter<U>) -> Tensor {
        let mut x = x.clone();
        for units in &self.stages {
            for unit in units {
                x = interpreter.unit(unit, &x);
            }
            if x.shape()[1].min(x.shape()[2]) > 1 {
                x = interpreter.max_pool(&x, Pool { window: 2, stride: 2, pad: 0 });
            }
        }
        global_average(&x)
    }

    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> Vgg<V> {
        Vgg { stages: self.stages.iter().map(|units| units.iter().map(&f).collect()).collect() }
    }

    pub(crate) fn units(&self) -> Vec<&U> {
        self.stages.iter().flatten().collect()
    }

    pub(crate) fn units_mut(&mut self) -> Vec<&mut U> {
        self.stages.iter_mut().flatten().collect()
    }
}

/// The dimension of the representation.
pub(crate) fn dim(config: &EncoderConfig) -> usize {
    config.channels(512)
}
