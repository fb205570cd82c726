//! Convolutions of an encoder, for the benches of single kernels.

use crate::values::uniform;
use crate::workload::{encoder_config, image_shape};
use tarrl_encoders::{Arch, Encoder, convolutions};
use tarrl_tensor::{ConvShape, Cpu, Key};

/// The convolutions of an encoder for a batch, in their order.
pub fn layers(arch: Arch, batch: usize) -> Vec<ConvShape> {
    let device = Cpu { threads: 1, ..Cpu::default() }.open();
    let encoder = Encoder::new(&encoder_config(arch), &device, Key::new(0));
    let image = uniform(&device, &[&[1], &image_shape(arch)[..]].concat(), Key::new(1)).requires_grad();
    let mut layers = convolutions(&encoder.inference().forward(&image));
    for layer in &mut layers {
        layer.n = batch;
    }
    layers
}

/// Each shape once, where it comes first.
pub fn distinct(layers: &[ConvShape]) -> Vec<ConvShape> {
    let mut seen = Vec::new();
    for layer in layers {
        if !seen.contains(layer) {
            seen.push(*layer);
        }
    }
    seen
}

/// A short name of a convolution: kernel, stride, channels, and the map that comes in.
///
/// ```
/// # use tarrl_benches::{label, layers};
/// # use tarrl_encoders::Arch;
/// assert_eq!(label(&layers(Arch::ConvSmall, 1)[1]), "3x3-s2-32-64@28x28");
/// ```
pub fn label(s: &ConvShape) -> String {
    format!("{}x{}-s{}-{}-{}@{}x{}", s.kh, s.kw, s.conv.stride, s.c_in, s.c_out, s.h, s.w)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand for ConvSmall: `h·w·c_out·9·c_in` of 28²·32·1, 14²·64·32, 14²·64·64 and 7²·128·64. The figure of
    /// ResNet-18 is the usual 555.42 million of its CIFAR form, shortcuts included and no classifier.
    #[test]
    fn multiply_adds_are_those_of_the_published_networks() {
        let count = |arch, batch| layers(arch, batch).iter().map(ConvShape::macs).sum::<usize>();
        let by_hand = 9 * (784 * 32 + 196 * 64 * 32 + 196 * 64 * 64 + 49 * 128 * 64);
        assert_eq!((count(Arch::ConvSmall, 1), by_hand), (14_676_480, 14_676_480));
        assert_eq!(count(Arch::ResNet18Cifar, 1), 555_417_600);
        assert_eq!(count(Arch::ConvSmall, 5), 5 * 14_676_480);
    }

    #[test]
    fn repeated_layers_are_listed_once() {
        let all = layers(Arch::ResNet18Cifar, 2);
        assert_eq!((all.len(), distinct(&all).len()), (20, 11));
    }
}
