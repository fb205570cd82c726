//! Pixel normalization inside the model: `(x − mean) / std` for each channel.

use crate::config::EncoderConfig;
use tarrl_tensor::{Array, Tensor};

/// `(x − mean) / std` for each channel.
#[track_caller]
pub(crate) fn normalize(x: &Tensor, config: &EncoderConfig) -> Tensor {
    let c = config.in_channels;
    assert!(
        x.shape().rank() == 4 && x.shape()[3] == c,
        "encoder {}: images {:?}, expected (n, h, w, {c})",
        config.arch.name(),
        x.shape()
    );
    let side = config.side;
    assert!(
        !config.arch.needs_side() || x.shape()[1..3] == [side, side],
        "encoder {}: images {:?}, expected (n, {side}, {side}, {c})",
        config.arch.name(),
        x.shape()
    );
    if config.mean.is_empty() && config.std.is_empty() {
        return x.clone();
    }
    let value = |values: &[f64], i: usize, absent: f64| values.get(i).copied().unwrap_or(absent);
    let scale: Vec<f64> = (0..c).map(|i| 1.0 / value(&config.std, i, 1.0)).collect();
    let shift: Vec<f64> = (0..c).map(|i| -value(&config.mean, i, 0.0) * scale[i]).collect();
    let vector = |values: &[f64]| Tensor::from(Array::table(x.device(), [c], values)).cast(x.dtype());
    x.channel_affine(&vector(&scale), &vector(&shift), false)
}
