//! The networks against a plain evaluation: nested loops in f64 over `(n, c, h, w)`, written from the
//! descriptions of the networks and the tensors of a checkpoint in PyTorch's names and orders.

mod common;

use common::{images, relative_gap, tiny, with_random_norms};
use tarrl_encoders::checkpoint::{Tensors, Values, state_dict};
use tarrl_encoders::{Arch, EncoderConfig, ForwardContext, Variant, cast};
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

    /// With a border of zeros.
    fn framed(&self) -> Self {
        let mut framed = Maps::zeros([self.n, self.c, self.h + 2, self.w + 2]);
        for n in 0..self.n {
            for c in 0..self.c {
                for h in 0..framed.h {
                    for w in 0..framed.w {
                        *framed.at(n, c, h, w) = self.get(n, c, h as isize - 1, w as isize - 1);
                    }
                }
            }
        }
        framed
    }

    /// The largest of 3×3 values around every second position, of those that exist.
    fn stem_pool(&self) -> Self {
        let mut y = Maps::zeros([self.n, self.c, self.h.div_ceil(2), self.w.div_ceil(2)]);
        for n in 0..self.n {
            for c in 0..self.c {
                for h in 0..y.h {
                    for w in 0..y.w {
                        // Values are those of a ReLU, so that a border of zeros changes nothing.
                        let near =
                            |a: isize, b: isize| self.get(n, c, 2 * h as isize + a, 2 * w as isize + b);
                        let window = (-1..=1).flat_map(|a| (-1..=1).map(move |b| (a, b)));
                        *y.at(n, c, h, w) = window.map(|(a, b)| near(a, b)).fold(0.0, f64::max);
                    }
                }
            }
        }
        y
    }

    fn plus(mut self, other: &Maps) -> Self {
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a += b);
        self
    }

    fn relu(mut self) -> Self {
        self.data.iter_mut().for_each(|v| *v = v.max(0.0));
        self
    }
}

struct Reference {
    state: Tensors,
    mode: Mode,
    /// No ReLU after the stem of a ResNet.
    linear_stem: bool,
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
        let bias_name = name.replace("weight", "bias");
        let bias = self.state.contains_key(&bias_name).then(|| self.values(&bias_name));
        let pad = if k % 2 == 1 { k / 2 } else { 0 };
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
                        *y.at(n, o, row, column) = sum + bias.as_ref().map_or(0.0, |b| b[o]);
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

    /// `convs` convolutions in each block; the stride is on the last of 3×3 but one, or the only one of a bottleneck.
    /// A stem of 7×7 has stride 2 and a max-pool after it.
    fn resnet(&self, x: Maps, counts: [usize; 4], convs: usize) -> Vec<f64> {
        let large = self.state["conv1.weight"].shape()[2] == 7;
        let mut x = self.unit(&x, ["conv1", "bn1"], if large { 2 } else { 1 });
        x = if self.linear_stem { x } else { x.relu() };
        if large {
            x = x.stem_pool();
        }
        for (stage, count) in (1..).zip(counts) {
            for block in 0..count {
                let at = |part: &str| format!("layer{stage}.{block}.{part}");
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                let mut y = x.clone();
                for i in 1..=convs {
                    let names = [at(&format!("conv{i}")), at(&format!("bn{i}"))];
                    y = self.unit(
                        &y,
                        names.each_ref().map(String::as_str),
                        if i + 1 == convs { stride } else { 1 },
                    );
                    y = if i < convs { y.relu() } else { y };
                }
                if self.state.contains_key(&at("downsample.0.weight")) {
                    x = self.unit(&x, [&at("downsample.0"), &at("downsample.1")], stride);
                }
                x = y.plus(&x).relu();
            }
        }
        pool(&x)
    }

    fn wide_resnet(&self, x: Maps, n: usize) -> Vec<f64> {
        let mut x = self.conv(&x, "conv1", 1);
        for stage in 1..=3 {
            for i in 0..n {
                let at = |part: &str| format!("block{stage}.layer.{i}.{part}");
                let stride = if stage > 1 && i == 0 { 2 } else { 1 };
                let a = self.norm(x.clone(), &at("bn1")).relu();
                let y = self.unit(&a, [&at("conv1"), &at("bn2")], stride).relu();
                let y = self.conv(&y, &at("conv2"), 1);
                if self.state.contains_key(&at("convShortcut.weight")) {
                    x = self.conv(&a, &at("convShortcut"), stride);
                }
                x = y.plus(&x);
            }
        }
        pool(&self.norm(x, "bn1").relu())
    }

    fn vgg(&self, mut x: Maps, counts: [usize; 5]) -> Vec<f64> {
        // Positions of the convolutions in a Sequential of convolution, norm, ReLU, and max-pools between.
        let mut at = 0;
        for count in counts {
            for _ in 0..count {
                x = self.unit(&x, [&format!("features.{at}"), &format!("features.{}", at + 1)], 1).relu();
                at += 3;
            }
            at += 1;
            if x.h.min(x.w) > 1 {
                let mut y = Maps::zeros([x.n, x.c, x.h / 2, x.w / 2]);
                for (i, value) in y.data.iter_mut().enumerate() {
                    let (column, row, map) = (i % y.w, i / y.w % y.h, i / (y.w * y.h));
                    let window =
                        |a: usize, b: usize| x.data[(map * x.h + 2 * row + a) * x.w + 2 * column + b];
                    *value = window(0, 0).max(window(0, 1)).max(window(1, 0)).max(window(1, 1));
                }
                x = y;
            }
        }
        pool(&x)
    }

    fn conv_flat(&self, mut x: Maps) -> Vec<f64> {
        for i in 1..=2 {
            x = self.unit(&x, [&format!("conv{i}"), &format!("bn{i}")], 2).relu();
        }
        self.linear(&x.data, x.c * x.h * x.w, "fc")
    }

    fn mlp(&self, x: Maps) -> Vec<f64> {
        let mut rows = Maps { n: x.n, c: x.c * x.h * x.w, h: 1, w: 1, data: x.data };
        for at in [0, 3, 6] {
            let data = self.linear(&rows.data, rows.c, &format!("layers.{at}"));
            rows = Maps { c: data.len() / rows.n, data, ..rows };
            rows = self.norm(rows, &format!("layers.{}", at + 1)).relu();
        }
        rows.data
    }

    /// Every row of `inputs` numbers.
    fn linear(&self, rows: &[f64], inputs: usize, name: &str) -> Vec<f64> {
        let weight = self.values(&format!("{name}.weight"));
        let bias = format!("{name}.bias");
        let bias = if self.state.contains_key(&bias) {
            self.values(&bias)
        } else {
            vec![0.0; weight.len() / inputs]
        };
        let dot = |row: &[f64], w: &[f64]| row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        let of_row = |row| weight.chunks(inputs).zip(&bias).map(move |(w, b)| dot(row, w) + b);
        rows.chunks(inputs).flat_map(of_row).collect()
    }

    fn layer_norm(&self, rows: &[f64], d: usize, name: &str) -> Vec<f64> {
        let [weight, bias] = ["weight", "bias"].map(|part| self.values(&format!("{name}.{part}")));
        let of_row = |row: &[f64]| {
            let mean = row.iter().sum::<f64>() / d as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
            let value = |i: usize| (row[i] - mean) / (variance + 1e-6).sqrt() * weight[i] + bias[i];
            (0..d).map(value).collect::<Vec<_>>()
        };
        rows.chunks(d).flat_map(of_row).collect()
    }

    fn vit(&self, x: Maps, [depth, heads, patch]: [usize; 3]) -> Vec<f64> {
        let patches = self.conv(&x, "patch_embed.proj", patch);
        let (d, positions) = (patches.c, patches.h * patches.w);
        let [class, embed] = ["cls_token", "pos_embed"].map(|name| self.values(name));
        let mut out = Vec::new();
        for n in 0..x.n {
            let mut tokens = class.clone();
            for p in 0..positions {
                tokens.extend((0..d).map(|c| patches.data[(n * d + c) * positions + p]));
            }
            tokens.iter_mut().zip(&embed).for_each(|(t, e)| *t += e);
            for block in 0..depth {
                let at = |part: &str| format!("blocks.{block}.{part}");
                let normed = self.layer_norm(&tokens, d, &at("norm1"));
                let seen = self.attention(&normed, [d, heads], &at("attn"));
                tokens.iter_mut().zip(seen).for_each(|(t, s)| *t += s);
                let hidden = self.linear(&self.layer_norm(&tokens, d, &at("norm2")), d, &at("mlp.fc1"));
                let gelu = |x: f64| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()));
                let hidden: Vec<f64> = hidden.into_iter().map(gelu).collect();
                let seen = self.linear(&hidden, 4 * d, &at("mlp.fc2"));
                tokens.iter_mut().zip(seen).for_each(|(t, s)| *t += s);
            }
            out.extend(self.layer_norm(&tokens[..d], d, "norm"));
        }
        out
    }

    /// Of one image's tokens.
    fn attention(&self, tokens: &[f64], [d, heads]: [usize; 2], name: &str) -> Vec<f64> {
        let qkv = self.linear(tokens, d, &format!("{name}.qkv"));
        let (count, width) = (tokens.len() / d, d / heads);
        let mut mixed = vec![0.0; tokens.len()];
        for head in 0..heads {
            // Queries, keys, values lie one after another in each row, each head after head.
            let part = |token: usize, which: usize| &qkv[token * 3 * d + which * d + head * width..][..width];
            for i in 0..count {
                let score = |j: usize| {
                    let dot: f64 = part(i, 0).iter().zip(part(j, 1)).map(|(q, k)| q * k).sum();
                    (dot / (width as f64).sqrt()).exp()
                };
                let total: f64 = (0..count).map(score).sum();
                for j in 0..count {
                    for (c, v) in part(j, 2).iter().enumerate() {
                        mixed[i * d + head * width + c] += score(j) / total * v;
                    }
                }
            }
        }
        self.linear(&mixed, d, &format!("{name}.proj"))
    }
}

fn pool(x: &Maps) -> Vec<f64> {
    x.data.chunks(x.h * x.w).map(|map| map.iter().sum::<f64>() / map.len() as f64).collect()
}

/// Pixels `(n, h, w, c)` as normalized maps.
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
    gap_of(&EncoderConfig { side, ..tiny(arch) }, mode, dtype, side)
}

fn gap_of(config: &EncoderConfig, mode: Mode, dtype: DType, side: usize) -> f64 {
    let device = cpu();
    let mut encoder = with_random_norms(config, &device, Key::new(5));
    cast(&mut encoder, dtype);
    let x = images(&device, Key::new(6), [3, side, 3]).cast(dtype);
    let mut pass = if mode == Mode::Train { ForwardContext::train() } else { ForwardContext::eval() };
    let y = encoder.forward(&x, &mut pass);
    assert_eq!(y.shape()[..], [3, encoder.dim()]);

    let variant = config.variant;
    let reference = Reference { state: state_dict(&encoder), mode, linear_stem: variant.linear_stem };
    let mut maps = normalized(&x, config);
    if variant.stem_padding == Some(2) {
        maps = maps.framed();
    }
    let blocks = |published: usize| (variant.depth.unwrap_or(published) - 4) / 6;
    let expected = match config.arch {
        Arch::ConvSmall => reference.conv_small(maps),
        Arch::ConvFlat => reference.conv_flat(maps),
        Arch::ResNet18 | Arch::ResNet18Cifar => reference.resnet(maps, [2, 2, 2, 2], 2),
        Arch::ResNet34 | Arch::ResNet34Cifar => reference.resnet(maps, [3, 4, 6, 3], 2),
        Arch::ResNet50 | Arch::ResNet50Cifar => reference.resnet(maps, [3, 4, 6, 3], 3),
        Arch::Wrn28x10 => reference.wide_resnet(maps, blocks(28)),
        Arch::Wrn34x10 => reference.wide_resnet(maps, blocks(34)),
        Arch::Vgg11 => reference.vgg(maps, [1, 1, 2, 2, 2]),
        Arch::Vgg13 => reference.vgg(maps, [2, 2, 2, 2, 2]),
        Arch::Vgg16 => reference.vgg(maps, [2, 2, 3, 3, 3]),
        Arch::Vgg19 => reference.vgg(maps, [2, 2, 4, 4, 4]),
        Arch::Mlp => reference.mlp(maps),
        Arch::VitTiny => {
            let [depth, heads, patch] = [(variant.depth, 12), (variant.heads, 3), (variant.patch, 4)]
                .map(|(given, published)| given.unwrap_or(published));
            reference.vit(maps, [depth, heads, patch])
        }
    };
    assert!(
        expected.iter().filter(|v| **v != 0.0).count() > expected.len() / 4,
        "a dead network proves little"
    );
    relative_gap(&y.array().to_f64(), &expected)
}

/// In f64 only the order of sums of at most a thousand terms differs, over at most 50 layers. Batch statistics of as few as
/// three values, one of each image, amplify that a hundredfold.
#[test]
fn every_network_equals_nested_loops_in_f64() {
    for arch in Arch::ALL {
        for mode in [Mode::Eval, Mode::Train] {
            // 9 and 11 are odd, so strides meet borders in both ways.
            let sides = match arch {
                Arch::VitTiny => [4, 8, 12],
                // Whose stem leaves a quarter.
                Arch::ResNet18 | Arch::ResNet34 | Arch::ResNet50 => [33, 36, 45],
                _ => [8, 9, 11],
            };
            for side in sides {
                let gap = gap(arch, mode, DType::F64, side);
                let limit = if mode == Mode::Train { 1e-9 } else { 1e-11 };
                assert!(gap < limit, "{} at side {side}: {gap:e}", arch.name());
            }
        }
    }
}

/// In f64, as above.
#[test]
fn variants_equal_nested_loops() {
    for (arch, side, variant) in [
        (Arch::ResNet18Cifar, 8, Variant { stem_padding: Some(2), ..Variant::default() }),
        (Arch::ResNet18Cifar, 8, Variant { linear_stem: true, ..Variant::default() }),
        (Arch::Wrn28x10, 8, Variant { stem_channels: Some(5), depth: Some(10), ..Variant::default() }),
        (Arch::VitTiny, 6, Variant { depth: Some(2), heads: Some(5), patch: Some(2), ..Variant::default() }),
    ] {
        let config = EncoderConfig { side, variant, ..tiny(arch) };
        let gap = gap_of(&config, Mode::Eval, DType::F64, side);
        assert!(gap < 1e-11, "{}: {gap:e}", arch.name());
    }
}

/// In f32 each layer adds a few roundings of 6e-8 and Winograd transforms about ten times that; batch
/// statistics over few values amplify them.
#[test]
fn the_usual_networks_equal_nested_loops_in_f32() {
    for arch in [Arch::ConvSmall, Arch::ResNet18Cifar, Arch::Vgg11, Arch::VitTiny, Arch::Mlp] {
        for mode in [Mode::Eval, Mode::Train] {
            let gap = gap(arch, mode, DType::F32, 12);
            assert!(gap < 2e-5, "{}: {gap:e}", arch.name());
        }
    }
}

/// At full width the kernels are those of real runs, where nested loops would take too long; the path in
/// f64 is the one that the tests above check. Sums of up to 4,608 terms, Winograd transforms included.
#[test]
fn at_full_width_single_precision_agrees_with_double() {
    let device = cpu();
    for (arch, side) in [(Arch::ConvSmall, 28), (Arch::ResNet18Cifar, 16)] {
        let mut encoder =
            with_random_norms(&EncoderConfig { width: 1.0, ..tiny(arch) }, &device, Key::new(8));
        let x = images(&device, Key::new(9), [2, side, 3]);
        let passes = [ForwardContext::eval(), ForwardContext::train()];
        let single = passes.clone().map(|mut pass| encoder.forward(&x, &mut pass).array().to_f64());
        cast(&mut encoder, DType::F64);
        let double = passes.map(|mut pass| encoder.forward(&x.cast(DType::F64), &mut pass).array().to_f64());
        for (single, double) in single.iter().zip(&double) {
            let gap = relative_gap(single, double);
            assert!(gap < 1e-4, "{}: {gap:e}", arch.name());
        }
    }
}
