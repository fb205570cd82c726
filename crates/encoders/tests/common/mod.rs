//! Helpers that several test files use.
#![allow(dead_code)] // Each test file uses a part of it.

use tarrl_encoders::{Arch, Encoder, EncoderConfig, Module, Role};
use tarrl_tensor::{DType, Device, Key, Random, Tensor};

/// The side of images where one size serves all networks.
pub(crate) const SIDE: usize = 12;

/// A narrow encoder of three-channel images that normalizes them.
pub(crate) fn tiny(arch: Arch) -> EncoderConfig {
    EncoderConfig {
        arch,
        width: 1.0 / 16.0,
        in_channels: 3,
        mean: vec![0.49, 0.48, 0.45],
        std: vec![0.25, 0.24, 0.26],
        side: if arch.needs_side() { SIDE } else { 0 },
        ..EncoderConfig::default()
    }
}

/// An encoder whose batch norms have scales, shifts and running statistics of all kinds, so that none of
/// them can be forgotten or confused.
pub(crate) fn with_random_norms(config: &EncoderConfig, device: &Device, key: Key) -> Encoder {
    let mut encoder = Encoder::new(config, device, key);
    encoder.visit_mut(&mut |name, role, tensor| {
        let mut stream = key.fold("unsettled").fold(name).stream();
        let (lo, hi) = match role {
            Role::NormScale => (0.5, 1.5),
            Role::NormShift | Role::Bias | Role::Embedding => (-0.5, 0.5),
            // Scores large enough that attention is not uniform.
            Role::Weight if name.ends_with("attn.qkv.weight") => (-1.0, 1.0),
            Role::Buffer if name.ends_with("running_mean") => (-0.5, 0.5),
            Role::Buffer if name.ends_with("running_var") => (0.3, 2.0),
            _ => return,
        };
        let values: Vec<f32> = (0..tensor.array().len()).map(|_| stream.uniform(lo, hi) as f32).collect();
        *tensor = Tensor::new(device, *tensor.shape(), &values);
    });
    encoder
}

/// Images `(n, side, side, channels)` of uniform pixels.
pub(crate) fn images(device: &Device, key: Key, [n, side, channels]: [usize; 3]) -> Tensor {
    let keys: Vec<Key> = (0..n).map(|i| key.fold("image").fold(i)).collect();
    Tensor::random(device, Random::Uniform, &keys, &[side, side, channels], DType::F32)
}

/// The largest difference, relative to the largest value.
pub(crate) fn relative_gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / scale
}
