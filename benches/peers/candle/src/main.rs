//! The workloads `forward` and `train` of `cargo xtask bench`, in candle on the CPU.
//!
//! `candle-peer train:conv-small [BATCH]` prints `ready` after warming up; then runs the workload once for each line of
//! standard input and prints its seconds; at the end of the input prints the peak of resident memory in millions of
//! bytes and candle's version.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Module, ModuleT, VarBuilder, VarMap, batch_norm, conv2d_no_bias};
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

struct Layer {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Layer {
    fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize, vb: VarBuilder) -> Result<Layer> {
        let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        let conv = conv2d_no_bias(inputs, outputs, kernel, config, vb.pp("conv"))?;
        Ok(Layer { conv, norm: batch_norm(outputs, 1e-5, vb.pp("norm"))? })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.conv.forward(x)?, train)
    }
}

struct Block {
    first: Layer,
    second: Layer,
    shortcut: Option<Layer>,
}

enum Encoder {
    ConvSmall(Vec<Layer>),
    ResNet18(Layer, Vec<Block>),
}

impl Encoder {
    fn conv_small(vb: VarBuilder) -> Result<Encoder> {
        let plan = [(1, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)];
        let layer = |(i, (a, b, stride))| Layer::new(a, b, 3, stride, vb.pp(i));
        Ok(Encoder::ConvSmall(plan.into_iter().enumerate().map(layer).collect::<Result<_>>()?))
    }

    fn resnet18(vb: VarBuilder) -> Result<Encoder> {
        let plan = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)];
        let plan = plan.into_iter().chain([(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]);
        let block = |(i, (a, b, stride))| {
            let vb: VarBuilder = vb.pp(format!("block{i}"));
            let shortcut = (a != b).then(|| Layer::new(a, b, 1, stride, vb.pp("shortcut"))).transpose()?;
            let first = Layer::new(a, b, 3, stride, vb.pp("first"))?;
            Ok(Block { first, second: Layer::new(b, b, 3, 1, vb.pp("second"))?, shortcut })
        };
        let blocks = plan.enumerate().map(block).collect::<Result<_>>()?;
        Ok(Encoder::ResNet18(Layer::new(3, 64, 3, 1, vb.pp("stem"))?, blocks))
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let maps = match self {
            Encoder::ConvSmall(layers) => {
                layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x, train)?.relu())?
            }
            Encoder::ResNet18(stem, blocks) => {
                let mut x = stem.forward(x, train)?.relu()?;
                for block in blocks {
                    let y = block.second.forward(&block.first.forward(&x, train)?.relu()?, train)?;
                    let same = match &block.shortcut {
                        Some(shortcut) => shortcut.forward(&x, train)?,
                        None => x,
                    };
                    x = (y + same)?.relu()?;
                }
                x
            }
        };
        maps.mean((2, 3))
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let workload = arguments.next().expect("a workload such as train:conv-small");
    let (activity, encoder) = workload.split_once(':').expect("ACTIVITY:ENCODER");
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let (encoder, channels, side, usual) = match encoder {
        "conv-small" => (Encoder::conv_small(vb)?, 1, 28, 256),
        "resnet18-cifar" => (Encoder::resnet18(vb)?, 3, 32, 64),
        other => panic!("no encoder {other}"),
    };
    let batch = arguments.next().map_or(usual, |batch| batch.parse().expect("a number of images"));
    let x = Tensor::rand(0f32, 1f32, (batch, channels, side, side), &Device::Cpu)?;
    let run = || -> Result<()> {
        match activity {
            "forward" => drop(encoder.forward(&x, false)?),
            "train" => drop((encoder.forward(&x, true)?.sqr()?.sum_all()? / batch as f64)?.backward()?),
            other => panic!("no activity {other} here"),
        }
        Ok(())
    };
    run()?;
    println!("ready");
    for _ in stdin().lock().lines() {
        let clock = Instant::now();
        run()?;
        println!("{}", clock.elapsed().as_secs_f64());
        stdout().flush()?;
    }
    println!("{} candle 0.11", peak_rss_mb());
    Ok(())
}

/// Not a number where the system does not tell.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0 / 1e6)
}
