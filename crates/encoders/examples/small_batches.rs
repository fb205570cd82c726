//! What Winograd's convolution costs in small batches: its choice by the shape of one image gives equal bits for every
//! batch, and its transform of the kernels weighs the more, the fewer images there are.
//!
//! Prints the time of inference and of the gradient in the images for each batch, with sums of products alone ("direct")
//! and with Winograd's convolution where it is chosen ("chosen"), on one thread, in turns:
//!
//! ```sh
//! cargo run --release -p tarrl-encoders --example small_batches
//! ```

use std::time::Instant;
use tarrl_encoders::{Arch, Encoder, EncoderConfig, InferenceEncoder};
use tarrl_tensor::{Arithmetic, Cpu, DType, Device, Key, Random, Tensor, grad};

/// Turns, of which the quickest counts: neighbors on the machine only add time.
const TURNS: usize = 15;

struct Side {
    device: Device,
    encoder: InferenceEncoder,
}

impl Side {
    fn new(config: &EncoderConfig, arithmetic: Arithmetic) -> Self {
        let device = Cpu { threads: 1, arithmetic }.open();
        let encoder = Encoder::new(config, &device, Key::new(1)).inference();
        Side { device, encoder }
    }

    /// Seconds of a forward pass, and of one with the gradient in the images, of `n` images.
    fn seconds(&self, shape: [usize; 3], n: usize) -> [f64; 2] {
        let keys: Vec<Key> = (0..n).map(|i| Key::new(2).fold(i)).collect();
        let x = Tensor::random(&self.device, Random::Uniform, &keys, &shape, DType::F32);
        let started = Instant::now();
        self.encoder.forward(&x).array().to_f64();
        let forward = started.elapsed().as_secs_f64();
        let x = x.requires_grad();
        let started = Instant::now();
        grad(&self.encoder.forward(&x).square().sum_all(), &[&x])[0].array().to_f64();
        [forward, started.elapsed().as_secs_f64()]
    }
}

fn main() {
    println!(
        "| encoder | images | forward: direct, ms | chosen | ratio | gradient: direct, ms | chosen | ratio |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    let cases = [(Arch::ConvSmall, [28, 28, 1]), (Arch::ResNet18Cifar, [32, 32, 3])];
    for (arch, shape) in cases {
        let config =
            EncoderConfig { arch, side: shape[0], in_channels: shape[2], ..EncoderConfig::default() };
        let sides = [Arithmetic::Direct, Arithmetic::Fast].map(|arithmetic| Side::new(&config, arithmetic));
        for n in [1, 4, 16, 64] {
            let mut least = [[f64::INFINITY; 2]; 2];
            for _ in 0..TURNS {
                for (least, side) in least.iter_mut().zip(&sides) {
                    least.iter_mut().zip(side.seconds(shape, n)).for_each(|(least, s)| *least = least.min(s));
                }
            }
            let [[forward, gradient], [fast_forward, fast_gradient]] =
                least.map(|side| side.map(|s| 1e3 * s));
            println!(
                "| {} | {n} | {forward:.2} | {fast_forward:.2} | {:.2} | {gradient:.2} | {fast_gradient:.2} | {:.2} |",
                arch.name(),
                fast_forward / forward,
                fast_gradient / gradient
            );
        }
    }
}
