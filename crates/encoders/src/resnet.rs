//! ResNet-18 for small images (He et al. 2016, section 4.2 for the stem and table 1 for the stages).

use crate::backbone::Apply;
use crate::config::EncoderConfig;
use crate::layers::{Activation, ConvConfig, ConvNorm};
use crate::site::Site;
use tarrl_tensor::Tensor;

/// Channels and first stride of each stage of two blocks, at width 1.
const STAGES: [(usize, usize); 4] = [(64, 1), (128, 2), (256, 2), (512, 2)];

/// A 3×3 stem of stride 1, four stages of two blocks, the mean over all positions.
/// Names: `conv1`, `bn1`, `layer1.0.conv1`, …, `layer4.1.bn2`.
#[derive(Clone, Debug)]
pub(crate) struct ResNet18<U> {
    stem: U,
    blocks: Vec<Block<U>>,
}

/// `relu(second(first(x)) + shortcut(x))`; the shortcut is `x` itself where the shape stays.
#[derive(Clone, Debug)]
struct Block<U> {
    first: U,
    second: U,
    shortcut: Option<U>,
}

impl ResNet18<ConvNorm> {
    pub(crate) fn new(config: &EncoderConfig, site: &Site) -> Self {
        let mut inputs = config.channels(STAGES[0].0);
        let conv = ConvConfig { inputs: config.in_channels, outputs: inputs, kernel: 3, stride: 1 };
        let stem = ConvNorm::new([&site.at("conv1"), &site.at("bn1")], conv, Activation::Relu);
        let mut blocks = Vec::with_capacity(2 * STAGES.len());
        for (stage, (base, stride)) in (1..).zip(STAGES) {
            let outputs = config.channels(base);
            for (i, stride) in [stride, 1].into_iter().enumerate() {
                let site = site.at(&format!("layer{stage}.{i}"));
                blocks.push(Block::new(&site, ConvConfig { inputs, outputs, kernel: 3, stride }));
                inputs = outputs;
            }
        }
        ResNet18 { stem, blocks }
    }
}

impl Block<ConvNorm> {
    fn new(site: &Site, first: ConvConfig) -> Self {
        let ConvConfig { inputs, outputs, stride, .. } = first;
        let unit = |names: [&str; 2], conv, activation| {
            ConvNorm::new([&site.at(names[0]), &site.at(names[1])], conv, activation)
        };
        let second = ConvConfig { inputs: outputs, outputs, kernel: 3, stride: 1 };
        let shortcut = ConvConfig { inputs, outputs, kernel: 1, stride };
        Block {
            first: unit(["conv1", "bn1"], first, Activation::Relu),
            second: unit(["conv2", "bn2"], second, Activation::None),
            shortcut: (stride != 1 || inputs != outputs)
                .then(|| unit(["downsample.0", "downsample.1"], shortcut, Activation::None)),
        }
    }
}

impl<U> ResNet18<U> {
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, apply: &mut Apply<'_, U>) -> Tensor {
        let mut x = apply(&self.stem, x);
        for block in &self.blocks {
            let y = apply(&block.first, &x);
            let y = apply(&block.second, &y);
            let shortcut = match &block.shortcut {
                Some(unit) => apply(unit, &x),
                None => x,
            };
            x = y.add_relu(&shortcut);
        }
        x.global_avg_pool()
    }

    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> ResNet18<V> {
        let block = |block: &Block<U>| Block {
            first: f(&block.first),
            second: f(&block.second),
            shortcut: block.shortcut.as_ref().map(&f),
        };
        ResNet18 { stem: f(&self.stem), blocks: self.blocks.iter().map(block).collect() }
    }

    pub(crate) fn units(&self) -> Vec<&U> {
        let mut units = vec![&self.stem];
        for Block { first, second, shortcut } in &self.blocks {
            units.extend([first, second].into_iter().chain(shortcut));
        }
        units
    }

    pub(crate) fn units_mut(&mut self) -> Vec<&mut U> {
        let mut units = vec![&mut self.stem];
        for Block { first, second, shortcut } in &mut self.blocks {
            units.extend([first, second].into_iter().chain(shortcut));
        }
        units
    }
}

/// The dimension of the representation.
pub(crate) fn dim(config: &EncoderConfig) -> usize {
    config.channels(STAGES[STAGES.len() - 1].0)
}
