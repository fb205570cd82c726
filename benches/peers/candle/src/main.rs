//! The workloads of `cargo xtask bench`, in candle on the CPU.
//!
//! Arguments: workload (`ACTIVITY:ENCODER`) and batch. Prints `ready` after warming up; then runs the workload once for each
//! line of standard input and prints its seconds; at the end of the input prints the peak of resident memory in
//! millions of bytes.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Module, ModuleT, VarBuilder, VarMap, batch_norm, conv2d_no_bias};
use std::time::Instant;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, workload, batch] = &arguments[..] else { panic!("usage: candle-peer ACTIVITY:ENCODER BATCH") };
    let (activity, encoder) = workload.split_once(':').expect("a workload is ACTIVITY:ENCODER");
    let batch: usize = batch.parse().expect("a number of images");
    let run = prepare(activity, encoder, batch)?;
    for _ in 0..2 {
        run()?;
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        line?;
        let start = Instant::now();
        run()?;
        println!("{}", start.elapsed().as_secs_f64());
    }
    println!("{} candle", peak_mb());
    Ok(())
}

/// The activity as a closure that does all of it.
fn prepare(activity: &str, encoder: &str, batch: usize) -> Result<Box<dyn Fn() -> Result<()>>> {
    let weights = VarMap::new();
    let builder = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let (network, shape) = match encoder {
        "conv-small" => (conv_small(&builder)?, (batch, 1, 28, 28)),
        "resnet18-cifar" => (resnet18(&builder)?, (batch, 3, 32, 32)),
        other => panic!("unknown encoder {other}"),
    };
    let x = Tensor::rand(0f32, 1f32, shape, &Device::Cpu)?;
    let loss = move |z: &Tensor| z.sqr()?.sum_all()? / batch as f64;
    Ok(match activity {
        "forward" => {
            let frozen = network.folded()?;
            Box::new(move || frozen.forward(&x, false).map(drop))
        }
        "input-grad" => {
            let frozen = network.folded()?;
            Box::new(move || {
                let u = Var::from_tensor(&x)?;
                let gradients = loss(&frozen.forward(&u, false)?)?.backward()?;
                assert!(gradients.get(&u).is_some());
                Ok(())
            })
        }
        "train" => Box::new(move || {
            let gradients = loss(&network.forward(&x, true)?)?.backward()?;
            assert!(weights.all_vars().iter().any(|var| gradients.get(var).is_some()));
            Ok(())
        }),
        other => panic!("unknown activity {other}: candle does forward, input-grad and train here"),
    })
}

/// Blocks, then the mean over all positions.
struct Network(Vec<Block>);

/// A convolution with batch norm, folded into it where `norm` is `None`.
struct Unit {
    conv: Conv2d,
    norm: Option<BatchNorm>,
}

enum Block {
    Plain(Unit),
    Residual { first: Unit, second: Unit, shortcut: Option<Unit> },
}

fn unit(builder: VarBuilder, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Result<Unit> {
    let config = Conv2dConfig { padding: kernel / 2, stride, ..Conv2dConfig::default() };
    let conv = conv2d_no_bias(inputs, outputs, kernel, config, builder.pp("conv"))?;
    Ok(Unit { conv, norm: Some(batch_norm(outputs, 1e-5, builder.pp("norm"))?) })
}

fn conv_small(builder: &VarBuilder) -> Result<Network> {
    let plan = [(1, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)];
    let blocks = plan.iter().enumerate().map(|(i, &(inputs, outputs, stride))| {
        unit(builder.pp(i.to_string()), inputs, outputs, 3, stride).map(Block::Plain)
    });
    blocks.collect::<Result<_>>().map(Network)
}

fn resnet18(builder: &VarBuilder) -> Result<Network> {
    let plan = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)];
    let rest = [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)];
    let mut blocks = vec![Block::Plain(unit(builder.pp("stem"), 3, 64, 3, 1)?)];
    for (i, &(inputs, outputs, stride)) in plan.iter().chain(&rest).enumerate() {
        let here = builder.pp(i.to_string());
        let same = stride == 1 && inputs == outputs;
        blocks.push(Block::Residual {
            first: unit(here.pp("first"), inputs, outputs, 3, stride)?,
            second: unit(here.pp("second"), outputs, outputs, 3, 1)?,
            shortcut: (!same).then(|| unit(here.pp("shortcut"), inputs, outputs, 1, stride)).transpose()?,
        });
    }
    Ok(Network(blocks))
}

impl Network {
    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = x.clone();
        for block in &self.0 {
            x = block.forward(&x, train)?;
        }
        x.mean(D::Minus1)?.mean(D::Minus1)
    }

    /// For inference, with constants for weights.
    fn folded(&self) -> Result<Network> {
        self.0.iter().map(Block::folded).collect::<Result<_>>().map(Network)
    }
}

impl Block {
    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        match self {
            Block::Plain(unit) => unit.forward(x, train)?.relu(),
            Block::Residual { first, second, shortcut } => {
                let y = second.forward(&first.forward(x, train)?.relu()?, train)?;
                let skip = match shortcut {
                    Some(unit) => unit.forward(x, train)?,
                    None => x.clone(),
                };
                (y + skip)?.relu()
            }
        }
    }

    fn folded(&self) -> Result<Block> {
        Ok(match self {
            Block::Plain(unit) => Block::Plain(unit.folded()?),
            Block::Residual { first, second, shortcut } => Block::Residual {
                first: first.folded()?,
                second: second.folded()?,
                shortcut: shortcut.as_ref().map(Unit::folded).transpose()?,
            },
        })
    }
}

impl Unit {
    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let y = self.conv.forward(x)?;
        match &self.norm {
            Some(norm) => norm.forward_t(&y, train),
            None => Ok(y),
        }
    }

    fn folded(&self) -> Result<Unit> {
        let norm = self.norm.as_ref().expect("it was not folded before");
        let conv = self.conv.absorb_bn(norm)?;
        let bias = conv.bias().map(Tensor::detach);
        Ok(Unit { conv: Conv2d::new(conv.weight().detach(), bias, *conv.config()), norm: None })
    }
}

/// Zero where the system does not tell.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.map_or(0.0, |kilobytes| kilobytes * 1024.0 / 1e6)
}
