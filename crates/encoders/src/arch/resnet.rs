//! ResNet (He et al. 2016): table 1 for the stages and the stem of large images, section 4.2 for that of small ones.

use super::interpreter::Interpreter;
use crate::config::{Arch, EncoderConfig};
use crate::layers::{Activation, ConvBnRelu, ConvConfig};
use crate::param_builder::ParamBuilder;
use crate::precision::global_average;
use tarrl_tensor::{Pool, Tensor};

/// Channels of each stage at width 1; all but the first begin with stride 2.
const STAGES: [usize; 4] = [64, 128, 256, 512];

/// The max-pool after the stem of large images.
const STEM_POOL: Pool = Pool { window: 3, stride: 2, pad: 1 };

/// A stem, four stages of blocks, the mean over all positions. The stem of small images is a 3×3 convolution of stride 1;
/// that of large ones a 7×7 convolution of stride 2 and a max-pool.
/// Names: `conv1`, `bn1`, `layer1.0.conv1`, …, `layer4.1.bn2`.
#[derive(Clone, Debug)]
pub(crate) struct ResNet<U> {
    stem: U,
    stem_pool: Option<Pool>,
    blocks: Vec<Block<U>>,
}

/// `relu(body(x) + shortcut(x))`; the shortcut is `x` itself where the shape stays.
#[derive(Clone, Debug)]
struct Block<U> {
    body: Vec<U>,
    shortcut: Option<U>,
}

/// How the blocks of a network are made.
struct Plan {
    /// Blocks of each stage.
    blocks: [usize; 4],
    /// A 1×1, a 3×3 and a 1×1 convolution that widens four times, instead of two of 3×3.
    bottleneck: bool,
}

/// The widening of a bottleneck.
const EXPANSION: usize = 4;

fn plan(arch: Arch) -> Plan {
    match arch {
        Arch::ResNet34 | Arch::ResNet34Cifar => Plan { blocks: [3, 4, 6, 3], bottleneck: false },
        Arch::ResNet50 | Arch::ResNet50Cifar => Plan { blocks: [3, 4, 6, 3], bottleneck: true },
        _ => Plan { blocks: [2, 2, 2, 2], bottleneck: false },
    }
}

impl ResNet<ConvBnRelu> {
    pub(crate) fn new(config: &EncoderConfig, params: &ParamBuilder) -> Self {
        let Plan { blocks: counts, bottleneck } = plan(config.arch);
        let mut inputs = config.channels(STAGES[0]);
        let small = config.arch.has_small_stem();
        let (kernel, stride) = if small { (3, 1) } else { (7, 2) };
        let conv = ConvConfig { inputs: config.in_channels, outputs: inputs, kernel, stride };
        let pad = config.variant.stem_padding.unwrap_or(kernel / 2);
        let names = [&params.at("conv1"), &params.at("bn1")];
        let activation = if config.variant.linear_stem { Activation::None } else { Activation::Relu };
        let stem = ConvBnRelu::conv_padded(names, (conv, pad), config.norm, activation);
        let mut blocks = Vec::new();
        for (stage, (base, count)) in STAGES.into_iter().zip(counts).enumerate() {
            let middle = config.channels(base);
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let params = params.at(&format!("layer{}.{i}", stage + 1));
                let convs = if bottleneck {
                    let outputs = EXPANSION * middle;
                    // The stride is on the 3×3 convolution, as torchvision has it.
                    vec![
                        ConvConfig { inputs, outputs: middle, kernel: 1, stride: 1 },
                        ConvConfig { inputs: middle, outputs: middle, kernel: 3, stride },
                        ConvConfig { inputs: middle, outputs, kernel: 1, stride: 1 },
                    ]
                } else {
                    vec![
                        ConvConfig { inputs, outputs: middle, kernel: 3, stride },
                        ConvConfig { inputs: middle, outputs: middle, kernel: 3, stride: 1 },
                    ]
                };
                inputs = convs[convs.len() - 1].outputs;
                blocks.push(Block::new(&params, config, (convs, stride)));
            }
        }
        ResNet { stem, stem_pool: (!small).then_some(STEM_POOL), blocks }
    }
}

impl Block<ConvBnRelu> {
    fn new(params: &ParamBuilder, config: &EncoderConfig, (convs, stride): (Vec<ConvConfig>, usize)) -> Self {
        let unit = |names: [&str; 2], conv, activation| {
            ConvBnRelu::conv([&params.at(names[0]), &params.at(names[1])], conv, config.norm, activation)
        };
        let last = convs.len() - 1;
        let (inputs, outputs) = (convs[0].inputs, convs[last].outputs);
        let shortcut = ConvConfig { inputs, outputs, kernel: 1, stride };
        let body = convs.into_iter().enumerate().map(|(i, conv)| {
            let activation = if i == last { Activation::None } else { Activation::Relu };
            unit([&format!("conv{}", i + 1), &format!("bn{}", i + 1)], conv, activation)
        });
        Block {
            body: body.collect(),
            shortcut: (stride != 1 || inputs != outputs)
                .then(|| unit(["downsample.0", "downsample.1"], shortcut, Activation::None)),
        }
    }
}

impl<U> ResNet<U> {
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, interpreter: &mut dyn Interpreter<U>) -> Tensor {
        let mut x = interpreter.unit(&self.stem, x);
        if let Some(pool) = self.stem_pool {
            x = interpreter.max_pool(&x, pool);
        }
        for block in &self.blocks {
            let (last, body) = block.body.split_last().expect("a block has units");
            let mut y = x.clone();
            for unit in body {
                y = interpreter.unit(unit, &y);
            }
            x = interpreter.residual_end(last, &y, block.shortcut.as_ref(), &x);
        }
        global_average(&x)
    }

    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> ResNet<V> {
        let block = |block: &Block<U>| Block {
            body: block.body.iter().map(&f).collect(),
            shortcut: block.shortcut.as_ref().map(&f),
        };
        let blocks = self.blocks.iter().map(block).collect();
        ResNet { stem: f(&self.stem), stem_pool: self.stem_pool, blocks }
    }

    pub(crate) fn units(&self) -> Vec<&U> {
        let mut units = vec![&self.stem];
        for Block { body, shortcut } in &self.blocks {
            units.extend(body.iter().chain(shortcut));
        }
        units
    }

    pub(crate) fn units_mut(&mut self) -> Vec<&mut U> {
        let mut units = vec![&mut self.stem];
        for Block { body, shortcut } in &mut self.blocks {
            units.extend(body.iter_mut().chain(shortcut));
        }
        units
    }
}

/// The dimension of the representation.
pub(crate) fn dim(config: &EncoderConfig) -> usize {
    let last = config.channels(STAGES[STAGES.len() - 1]);
    if plan(config.arch).bottleneck { EXPANSION * last } else { last }
}
