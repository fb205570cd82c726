//! Both networks against a plain evaluation: nested loops in f64 over `(n, c, h, w)`, written from the
//! descriptions of the networks and the tensors of a checkpoint in PyTorch's names and orders.

mod common;

use common::{images, relative_gap, tiny, unsettled};
use tarrl_encoders::checkpoint::{Tensors, Values, state};
use tarrl_encoders::{Arch, EncoderConfig, Pass, cast};
use tarrl_tensor::{DType, Key, Tensor, cpu};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Train,
    Eval,
}

#[derive(Clone)]
struct Maps {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    data: Vec<f64>,
}

impl Maps {
    fn zeros([n, c, h, w]: [usize; 4]) -> Self {
        Maps { n, c, h, w, data: vec![0.0; n * c * h * w] }
    }

    fn at(&mut self, n: usize, c: usize, h: usize, w: usize) -> &mut f64 {
        &mut self.data[((n * self.c + c) * self.h + h) * self.w + w]
    }

    fn get(&self, n: usize, c: usize, h: isize, w: isize) -> f64 {
        if h < 0 || w < 0 || h >= self.h as isize || w >= self.w as isize {
            return 0.0;
        }
        self.data[((n * self.c + c) * self.h + h as usize) * self.w + w as usize]
    }

    fn relu(mut self) -> Self {
        self.data.iter_mut().for_each(|v| *v = v.max(0.0));
        self
    }
}

struct Reference {
    state: Tensors,
    mode: Mode,
}

impl Reference {
    fn values(&self, name: &str) -> Vec<f64> {
        match self.state[name].values() {
            Values::F32(v) => v.iter().map(|&v| f64::from(v)).collect(),
            Values::F64(v) => v.clone(),
            _ => panic!("{name} holds whole numbers"),
        }
    }

    fn conv(&self, x: &Maps, name: &str, stride: usize) -> Maps {
        let name = format!("{name}.weight");
        let weight = self.values(&name);
        let &[out, inputs, k, _] = self.state[&name].shape() else { panic!("{name} is no kernel") };
        assert_eq!(inputs, x.c, "{name}");
        let pad = if k == 3 { 1 } else { 0 };
        let size = |extent: usize| (extent + 2 * pad - k) / stride + 1;
        let mut y = Maps::zeros([x.n, out, size(x.h), size(x.w)]);
        for n in 0..x.n {
            for o in 0..out {
                for row in 0..y.h {
                    for column in 0..y.w {
                        let mut sum = 0.0;
                        for i in 0..inputs {
                            for a in 0..k {
                                for b in 0..k {
                                    let h = (row * stride + a) as isize - pad as isize;
                                    let w = (column * stride + b) as isize - pad as isize;
                                    sum += weight[((o * inputs + i) * k + a) * k + b] * x.get(n, i, h, w);
                                }
                            }
                        }
                        *y.at(n, o, row, column) = sum;
                    }
                }
            }
        }
        y
    }

    fn norm(&self, mut x: Maps, name: &str) -> Maps {
        let part = |part: &str| self.values(&format!("{name}.{part}"));
        let (weight, bias) = (part("weight"), part("bias"));
        let (running_mean, running_var) = (part("running_mean"), part("running_var"));
        for c in 0..x.c {
            let mut values = Vec::new();
            for n in 0..x.n {
                for h in 0..x.h {
                    for w in 0..x.w {
                        values.push(*x.at(n, c, h, w));
                    }
                }
            }
            let count = values.len() as f64;
            let (mut mean, mut variance) = (running_mean[c], running_var[c]);
            if self.mode == Mode::Train {
                mean = values.iter().sum::<f64>() / count;
                variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            }
            for n in 0..x.n {
                for h in 0..x.h {
                    for w in 0..x.w {
                        let v = x.at(n, c, h, w);
                        *v = (*v - mean) / (variance + 1e-5).sqrt() * weight[c] + bias[c];
                    }
                }
            }
        }
        x
    }

    fn unit(&self, x: &Maps, [conv, norm]: [&str; 2], stride: usize) -> Maps {
        self.norm(self.conv(x, conv, stride), norm)
    }

    fn conv_small(&self, mut x: Maps) -> Vec<f64> {
        for (i, stride) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
            x = self.unit(&x, [&format!("conv{i}"), &format!("bn{i}")], stride).relu();
        }
        pool(&x)
    }

    fn resnet18(&self, x: Maps) -> Vec<f64> {
        let mut x = self.unit(&x, ["conv1", "bn1"], 1).relu();
        for stage in 1..=4 {
            for block in 0..2 {
                let at = |part: &str| format!("layer{stage}.{block}.{part}");
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                let y = self.unit(&x, [&at("conv1"), &at("bn1")], stride).relu();
                let mut y = self.unit(&y, [&at("conv2"), &at("bn2")], 1);
                if self.state.contains_key(&at("downsample.0.weight")) {
                    x = self.unit(&x, [&at("downsample.0"), &at("downsample.1")], stride);
                }
                y.data.iter_mut().zip(&x.data).for_each(|(y, x)| *y += x);
                x = y.relu();
            }
        }
        pool(&x)
    }
}

fn pool(x: &Maps) -> Vec<f64> {
    x.data.chunks(x.h * x.w).map(|map| map.iter().sum::<f64>() / map.len() as f64).collect()
}

/// Pixels `(n, h, w, c)` as normalised maps.
fn normalized(x: &Tensor, config: &EncoderConfig) -> Maps {
    let &[n, h, w, c] = &x.shape()[..] else { panic!("images") };
    let pixels = x.array().to_f64();
    let mut maps = Maps::zeros([n, c, h, w]);
    for (i, pixel) in pixels.into_iter().enumerate() {
        let (channel, position) = (i % c, i / c);
        let value = (pixel - config.mean[channel]) / config.std[channel];
        *maps.at(position / (h * w), channel, position / w % h, position % w) = value;
    }
    maps
}

fn gap(arch: Arch, mode: Mode, dtype: DType, side: usize) -> f64 {
    let device = cpu();
    let config = tiny(arch);
    let mut encoder = unsettled(&config, &device, Key::new(5));
    cast(&mut encoder, dtype);
    let x = images(&device, Key::new(6), [3, side, 3]).cast(dtype);
    let mut pass = if mode == Mode::Train { Pass::train() } else { Pass::eval() };
    let y = encoder.forward(&x, &mut pass);
    assert_eq!(y.shape()[..], [3, encoder.dim()]);

    let reference = Reference { state: state(&encoder), mode };
    let maps = normalized(&x, &config);
    let expected = match arch {
        Arch::ConvSmall => reference.conv_small(maps),
        Arch::ResNet18Cifar => reference.resnet18(maps),
    };
    assert!(
        expected.iter().filter(|v| **v > 0.0).count() > expected.len() / 4,
        "a dead network proves little"
    );
    relative_gap(&y.array().to_f64(), &expected)
}

/// In f64 only the order of sums of at most a thousand terms differs, over at most 18 layers.
#[test]
fn both_networks_equal_nested_loops_in_f64() {
    for arch in [Arch::ConvSmall, Arch::ResNet18Cifar] {
        for mode in [Mode::Eval, Mode::Train] {
            // 9 and 11 are odd, so strides meet borders in both ways.
            for side in [8, 9, 11] {
                let gap = gap(arch, mode, DType::F64, side);

                assert!(gap < 1e-12, "{} at side {side}: {gap:e}", arch.name());
            }
        }
    }
}

/// In f32 each layer adds a few roundings of 6e-8 and Winograd transforms about ten times that; batch
/// statistics over few values amplify them.
#[test]
fn both_networks_equal_nested_loops_in_f32() {
    for arch in [Arch::ConvSmall, Arch::ResNet18Cifar] {
        for mode in [Mode::Eval, Mode::Train] {
            let gap = gap(arch, mode, DType::F32, 12);

            assert!(gap < 1e-5, "{}: {gap:e}", arch.name());
        }
    }
}

/// At full width the kernels are those of real runs, where nested loops would take too long; the path in
/// f64 is the one that the tests above check. Sums of up to 4,608 terms, Winograd transforms included.
#[test]
fn at_full_width_single_precision_agrees_with_double() {
    let device = cpu();
    for (arch, side) in [(Arch::ConvSmall, 28), (Arch::ResNet18Cifar, 16)] {
        let mut encoder = unsettled(&EncoderConfig { width: 1.0, ..tiny(arch) }, &device, Key::new(8));
        let x = images(&device, Key::new(9), [2, side, 3]);
        let passes = [Pass::eval(), Pass::train()];
        let single = passes.clone().map(|mut pass| encoder.forward(&x, &mut pass).array().to_f64());
        cast(&mut encoder, DType::F64);
        let double = passes.map(|mut pass| encoder.forward(&x.cast(DType::F64), &mut pass).array().to_f64());
        for (single, double) in single.iter().zip(&double) {
            let gap = relative_gap(single, double);
            assert!(gap < 1e-4, "{}: {gap:e}", arch.name());
        }
    }
}
