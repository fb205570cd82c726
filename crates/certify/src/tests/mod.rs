//! Tests of certificates across modules; unit tests of one file stand in that file.

mod certificate_files;
mod deployment_orders;
mod dyadic_example;
mod floating_point;
mod graph_tracing;
mod head_reports;
mod optimized_slopes;
mod planted_points;
mod soundness;

use crate::{CertifyConfig, Effort};
use tarrl_attacks::Threat;
use tarrl_tensor::{Arithmetic, Conv, Cpu, DType, Device, Key, Random, Tensor};

pub(super) const EFFORTS: [Effort; 4] = [Effort::Interval, Effort::Linear, Effort::Full, Effort::Optimized];

pub(super) fn device() -> Device {
    Cpu { threads: 1, arithmetic: Arithmetic::Direct }.open()
}

/// Normal numbers of a shape times a factor, in f32.
pub(super) fn normal(device: &Device, key: Key, shape: &[usize], factor: f64) -> Tensor {
    let len = shape.iter().product::<usize>();
    Tensor::random(device, Random::Normal, &[key], &[len], DType::F32).mul_scalar(factor).reshape(shape)
}

/// Pixels `(n, …)` in [0, 1], some of them at its ends.
pub(super) fn pixels(device: &Device, key: Key, shape: &[usize]) -> Tensor {
    let len = shape.iter().product::<usize>();
    let wide = Tensor::random(device, Random::Uniform, &[key], &[len], DType::F32);
    wide.mul_scalar(1.4).add_scalar(-0.2).clamp(0.0, 1.0).reshape(shape)
}

pub(super) fn config(effort: Effort, threat: Threat) -> CertifyConfig {
    CertifyConfig { threat, effort, ..CertifyConfig::default() }
}

/// A network with every op that has a rule: normalization of pixels, convolutions of two strides with folded
/// batch norms, a residual branch, an average pool, a permutation, a mean over positions and a linear map.
pub(super) struct Net {
    pub(super) device: Device,
    tensors: Vec<Tensor>,
}

impl Net {
    pub(super) fn new(key: Key) -> Self {
        let device = device();
        let shapes: [(&[usize], f64); 10] = [
            (&[1], 0.5),
            (&[3, 3, 1, 3], 0.5),
            (&[3], 0.2),
            (&[3, 3, 3, 4], 0.35),
            (&[4], 0.2),
            (&[3, 3, 4, 4], 0.3),
            (&[1, 1, 3, 4], 0.6),
            (&[4, 5], 0.7),
            (&[5], 0.3),
            (&[4], 1.0),
        ];
        let tensors =
            shapes.iter().enumerate().map(|(i, (s, f))| normal(&device, key.fold(i), s, *f)).collect();
        Net { device, tensors }
    }

    /// From `(n, 8, 8, 1)` to `(n, 5)`.
    pub(super) fn encode(&self, x: &Tensor) -> Tensor {
        let w: Vec<Tensor> = self.tensors.iter().map(|t| t.cast(x.dtype())).collect();
        let conv = |stride, pad| Conv { stride, pad, groups: 1 };
        let one = |c: usize| Tensor::full(x.device(), [c], x.dtype(), 1.0);
        let x = x.channel_affine(&one(1).mul_scalar(2.0), &w[0], false);
        let a = x.conv2d(&w[1], conv(1, 1)).channel_affine(&one(3), &w[2], true); // (n, 8, 8, 3)
        let b = a.conv2d(&w[3], conv(2, 1)).channel_affine(&w[9], &w[4], true); // (n, 4, 4, 4)
        let branch = b.conv2d(&w[5], conv(1, 1));
        let skip = a.conv2d(&w[6], conv(2, 0));
        let sum = (&branch + &skip).relu();
        let n = sum.shape()[0];
        let pooled = sum.avg_pool(tarrl_tensor::Pool { window: 2, stride: 2, pad: 0 }); // (n, 2, 2, 4)
        let turned = pooled.permute(&[0, 3, 1, 2]).reshape([n, 4, 4]);
        let mean = turned.mean(2).reshape([n, 4]);
        &mean.neg().matmul(&w[7]) + &w[8]
    }
}
