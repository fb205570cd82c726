//! The high frequencies of images.

use std::f64::consts::TAU;
use tarrl_tensor::{Device, Tensor};

/// Takes the low frequencies out of images: the disc of a quarter of the side around frequency zero, radius 8 at
/// 32×32 (Fan et al. 2021, section 4.1). What is left is not brought back into the range of pixels.
pub(crate) struct HighPass {
    /// `(h·w, h·w)`: symmetric, the identity less the projection on the disc.
    matrix: Tensor,
}

impl HighPass {
    pub(crate) fn new(device: &Device, [h, w]: [usize; 2]) -> Self {
        let radius = h.min(w) as f64 / 4.0;
        let signed = |u: usize, side: usize| if 2 * u > side { u as f64 - side as f64 } else { u as f64 };
        let low: Vec<(usize, usize)> = (0..h)
            .flat_map(|u| (0..w).map(move |v| (u, v)))
            .filter(|&(u, v)| signed(u, h).hypot(signed(v, w)) <= radius)
            .collect();
        // The disc is symmetric, so that the kernel of the convolution is real.
        let kernel: Vec<f64> = (0..h * w)
            .map(|at| {
                let (y, x) = (at / w, at % w);
                let wave = |&(u, v): &(usize, usize)| {
                    (TAU * ((u * y) as f64 / h as f64 + (v * x) as f64 / w as f64)).cos()
                };
                low.iter().map(wave).sum::<f64>() / (h * w) as f64
            })
            .collect();
        let entry = |from: usize, to: usize| {
            let (dy, dx) = ((from / w + h - to / w) % h, (from % w + w - to % w) % w);
            f64::from(u8::from(from == to)) - kernel[dy * w + dx]
        };
        let entries: Vec<f32> = (0..h * w)
            .flat_map(|i| (0..h * w).map(move |j| (i, j)))
            .map(|(i, j)| entry(i, j) as f32)
            .collect();
        HighPass { matrix: Tensor::new(device, [h * w, h * w], &entries) }
    }

    /// Of images `(n, h, w, c)`, channel by channel.
    pub(crate) fn of(&self, x: &Tensor) -> Tensor {
        let [n, h, w, c] = [0, 1, 2, 3].map(|axis| x.shape()[axis]);
        let planes = x.permute(&[0, 3, 1, 2]).reshape([n * c, h * w]);
        planes.matmul(&self.matrix).reshape([n, c, h, w]).permute(&[0, 2, 3, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::cpu;

    /// A wave of `u` periods down and `v` across.
    fn wave(u: f64, v: f64, side: usize) -> Vec<f32> {
        let at = |i: usize| {
            let (y, x) = ((i / side) as f64 / side as f64, (i % side) as f64 / side as f64);
            (TAU * (u * y + v * x) + 0.3).cos() as f32
        };
        (0..side * side).map(at).collect()
    }

    #[test]
    fn slow_waves_vanish_and_fast_ones_stay() {
        let (device, side) = (cpu(), 16);
        let filter = HighPass::new(&device, [side, side]);
        for (u, v, stays) in
            [(0.0, 0.0, 0.0), (4.0, 0.0, 0.0), (2.0, -3.0, 0.0), (4.0, 1.0, 1.0), (7.0, -6.0, 1.0)]
        {
            // Two channels, the second empty.
            let values: Vec<f32> = wave(u, v, side).iter().flat_map(|&value| [value, 0.0]).collect();
            let x = Tensor::new(&device, [1, side, side, 2], &values);
            let found = filter.of(&x).array().to_f64();
            let worst =
                found.iter().zip(&values).map(|(a, &b)| (a - stays * f64::from(b)).abs()).fold(0.0, f64::max);
            // 256 products of f32 below 1.
            assert!(worst < 2e-5, "({u}, {v}): {worst}");
        }
    }
}
