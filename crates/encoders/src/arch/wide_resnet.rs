//! WideResNet: wide residual networks (Zagoruyko & Komodakis 2016), as work on robustness uses them (Zhang et al. 2019).

use super::interpreter::Interpreter;
use crate::config::{Arch, EncoderConfig};
use crate::layers::{Activation, ConvBnRelu, ConvConfig};
use crate::param_builder::ParamBuilder;
use crate::precision::global_average;
use tarrl_tensor::Tensor;

/// Channels of the stem at width 1.
const STEM: usize = 16;

/// Channels of each stage at width 1, ten times wider than at first; all but the first begin with stride 2.
const STAGES: [usize; 3] = [160, 320, 640];

/// A 3×3 stem, three stages of blocks that normalize before they convolve, a last normalization, the mean over all
/// positions. Names: `conv1`, `block1.layer.0.bn1`, `block1.layer.0.conv1`, …, `block1.layer.0.convShortcut`, …, `bn1`.
#[derive(Clone, Debug)]
pub(crate) struct WideResNet<U> {
    stem: U,
    blocks: Vec<Block<U>>,
    last: U,
}

/// `conv2(relu(bn2(conv1(a)))) + shortcut` with `a = relu(bn1(x))`; the shortcut is `x`, or a convolution of `a` where the
/// shape changes.
#[derive(Clone, Debug)]
struct Block<U> {
    /// `relu ∘ bn1`
    before: U,
    /// `relu ∘ bn2 ∘ conv1`
    first: U,
    /// `conv2`
    second: U,
    shortcut: Option<U>,
}

impl WideResNet<ConvBnRelu> {
    pub(crate) fn new(config: &EncoderConfig, params: &ParamBuilder) -> Self {
        // A depth counts 6 convolutions per n, the stem, and the classifiers of three stages.
        let published = if config.arch == Arch::Wrn28x10 { 28 } else { 34 };
        let n = (config.variant.depth.unwrap_or(published) - 4) / 6;
        let mut inputs = config.variant.stem_channels.unwrap_or_else(|| config.channels(STEM));
        let conv = ConvConfig { inputs: config.in_channels, outputs: inputs, kernel: 3, stride: 1 };
        let stem = ConvBnRelu::conv_only(&params.at("conv1"), conv);
        let mut blocks = Vec::new();
        for (stage, base) in STAGES.into_iter().enumerate() {
            let outputs = config.channels(base);
            for i in 0..n {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let params = params.at(&format!("block{}.layer.{i}", stage + 1));
                blocks.push(Block::new(&params, config, ConvConfig { inputs, outputs, kernel: 3, stride }));
                inputs = outputs;
            }
        }
        WideResNet {
            stem,
            blocks,
            last: ConvBnRelu::norm_only(&params.at("bn1"), inputs, config.norm, Activation::Relu),
        }
    }
}

impl Block<ConvBnRelu> {
    fn new(params: &ParamBuilder, config: &EncoderConfig, conv: ConvConfig) -> Self {
        let ConvConfig { inputs, outputs, stride, .. } = conv;
        let second = ConvConfig { inputs: outputs, outputs, kernel: 3, stride: 1 };
        let shortcut = ConvConfig { inputs, outputs, kernel: 1, stride };
        let builders = [&params.at("conv1"), &params.at("bn2")];
        Block {
            before: ConvBnRelu::norm_only(&params.at("bn1"), inputs, config.norm, Activation::Relu),
            first: ConvBnRelu::conv(builders, conv, config.norm, Activation::Relu),
            second: ConvBnRelu::conv_only(&params.at("conv2"), second),
            shortcut: (inputs != outputs)
                .then(|| ConvBnRelu::conv_only(&params.at("convShortcut"), shortcut)),
        }
    }
}

impl<U> WideResNet<U> {
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, interpreter: &mut dyn Interpreter<U>) -> Tensor {
        let mut x = interpreter.unit(&self.stem, x);
        for block in &self.blocks {
            let a = interpreter.unit(&block.before, &x);
            let y = interpreter.unit(&block.first, &a);
            let y = interpreter.unit(&block.second, &y);
            if let Some(unit) = &block.shortcut {
                x = interpreter.unit(unit, &a);
            }
            x = &y + &x;
        }
        global_average(&interpreter.unit(&self.last, &x))
    }

    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> WideResNet<V> {
        let block = |block: &Block<U>| Block {
            before: f(&block.before),
            first: f(&block.first),
            second: f(&block.second),
            shortcut: block.shortcut.as_ref().map(&f),
        };
        let blocks = self.blocks.iter().map(block).collect();
        WideResNet { stem: f(&self.stem), blocks, last: f(&self.last) }
    }

    pub(crate) fn units(&self) -> Vec<&U> {
        let mut units = vec![&self.stem];
        for Block { before, first, second, shortcut } in &self.blocks {
            units.extend([before, first, second].into_iter().chain(shortcut));
        }
        units.push(&self.last);
        units
    }

    pub(crate) fn units_mut(&mut self) -> Vec<&mut U> {
        let mut units = vec![&mut self.stem];
        for Block { before, first, second, shortcut } in &mut self.blocks {
            units.extend([before, first, second].into_iter().chain(shortcut));
        }
        units.push(&mut self.last);
        units
    }
}

/// The dimension of the representation.
pub(crate) fn dim(config: &EncoderConfig) -> usize {
    config.channels(STAGES[STAGES.len() - 1])
}
