//! Interval bound propagation of the displacement, differentiable in the parameters: the certified term of training.

use crate::arch::interpreter::Interpreter;
use crate::encoder::Encoder;
use crate::forward_context::ForwardContext;
use crate::layers::{Activation, Affine, ConvBnRelu};
use tarrl_tensor::{Pool, Tensor};

/// Interval bounds of the displacement `f(x') − f(x)`, for training.
///
/// Every value carries its clean number `a` and an interval `c ± r` of its displacement, zero inside. A
/// convolution and the scale of its batch norm, whose statistics are those of the clean images, take
/// `c` to `W c` and `r` to `|W| r`; ReLU takes each end `D` to `relu(a + D) − relu(a)` (interval bound
/// propagation in difference form, Gowal et al. 2018). Up to rounding these are bounds for the network
/// at hand, whatever its training; tight only where training made them so.
#[derive(Clone, Debug)]
pub struct IntervalDisplacement {
    /// `(n, d)`: the representations.
    pub clean: Tensor,
    /// `(n, d)`: the middle of each interval.
    pub center: Tensor,
    /// `(n, d)`: half of its width.
    pub radius: Tensor,
}

impl IntervalDisplacement {
    /// `(n, d)`: the largest displacement of each coordinate, `|c| + r`.
    pub fn worst(&self) -> Tensor {
        &self.center.abs() + &self.radius
    }
}

impl Encoder {
    /// Bounds for images `x` `(n, h, w, c)` in [0, 1] that move by at most `epsilon` in each pixel, and stay in
    /// [0, 1].
    ///
    /// Three forward passes, one of them with the absolute values of the weights.
    ///
    /// # Panics
    /// As [`forward`](Encoder::forward), and for transformers: intervals have no rule for attention.
    #[track_caller]
    pub fn interval_displacement(
        &self,
        x: &Tensor,
        epsilon: f64,
        pass: &mut ForwardContext,
    ) -> IntervalDisplacement {
        let arch = self.config().arch;
        assert!(
            arch.has_intervals(),
            "interval_displacement: {} has attention, which has no rule",
            arch.name()
        );
        let x = x.detach();
        let low = x.clamp(0.0, epsilon).neg();
        let high = x.neg().add_scalar(1.0).clamp(0.0, epsilon);
        let middle = (&high + &low).mul_scalar(0.5);
        let half = (&high - &low).mul_scalar(0.5);
        let zero = self.normalize(&x.zeros_like());
        // Normalization has a positive scale, so that widths stay widths.
        let scaled = |x: &Tensor| &self.normalize(x) - &zero;
        // The three are one batch: sums and means, which the architecture does itself, treat them alike.
        let packed = Tensor::concat(&[&self.normalize(&x), &scaled(&middle), &scaled(&half)], 0);
        let n = x.shape()[0];
        let y = self.interpret(&packed, &mut IntervalPass { n, pass });
        let part = |i: usize| y.slice(0, i * n, n);
        IntervalDisplacement { clean: part(0), center: part(1), radius: part(2) }
    }
}

/// Interval arithmetic on `[a; c; r]` `(3n, …)`, concatenated along the batch.
struct IntervalPass<'a> {
    n: usize,
    pass: &'a mut ForwardContext,
}

impl Interpreter<ConvBnRelu> for IntervalPass<'_> {
    #[track_caller]
    fn unit(&mut self, unit: &ConvBnRelu, packed: &Tensor) -> Tensor {
        let n = self.n;
        let signed = unit.linear.linear(&packed.slice(0, 0, 2 * n));
        let radius = unit.linear.absolute(&packed.slice(0, 2 * n, n));
        let (clean, center) = (signed.slice(0, 0, n), signed.slice(0, n, n));
        let clean = unit.linear.bias().map_or(clean.clone(), |bias| &clean + bias);
        let parts = match &unit.norm {
            None => [clean, center, radius],
            Some(norm) => {
                let Affine { scale, shift } = norm.at(self.pass.bn_branch()).affine_at(&clean, self.pass);
                let a = clean.channel_affine(&scale, &shift, false);
                [a, &center * &scale, &radius * &scale.abs()]
            }
        };
        match unit.activation {
            Activation::None => Tensor::concat(&parts.each_ref(), 0),
            Activation::Relu => monotone(&parts, &Tensor::relu),
        }
    }

    fn add_relu(&mut self, x: &Tensor, y: &Tensor) -> Tensor {
        monotone(&self.unpack(&(x + y)), &Tensor::relu)
    }

    fn max_pool(&mut self, x: &Tensor, pool: Pool) -> Tensor {
        monotone(&self.unpack(x), &|x| x.max_pool(pool))
    }
}

impl IntervalPass<'_> {
    fn unpack(&self, packed: &Tensor) -> [Tensor; 3] {
        [0, 1, 2].map(|i| packed.slice(0, i * self.n, self.n))
    }
}

/// A function that never falls takes each end `D` of the displacement of `a` to `f(a + D) − f(a)`.
fn monotone([a, c, r]: &[Tensor; 3], f: &dyn Fn(&Tensor) -> Tensor) -> Tensor {
    let rest = f(a);
    let high = &f(&(a + &(c + r))) - &rest;
    let low = &f(&(a + &(c - r))) - &rest;
    let (c, r) = ((&high + &low).mul_scalar(0.5), (&high - &low).mul_scalar(0.5));
    Tensor::concat(&[&rest, &c, &r], 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arch, EncoderConfig, parameters, track};
    use tarrl_tensor::{Cpu, DType, Device, Key, Random, grad};

    fn images(device: &Device, key: Key) -> Tensor {
        let keys: Vec<Key> = (0..4usize).map(|i| key.fold(i)).collect();
        let wide = Tensor::random(device, Random::Uniform, &keys, &[12, 12, 1], DType::F32);
        wide.mul_scalar(1.4).add_scalar(-0.2).clamp(0.0, 1.0)
    }

    /// Of a block that ends in `relu(x + y)` too: with `a = 10` and `D = −1` the end moves by −1, with `a = 0` by nothing.
    #[test]
    fn the_sum_of_a_residual_block_moves_as_its_parts() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let packed = |values: [f32; 6]| Tensor::new(&device, [6, 1], &values);
        let (x, y) = (packed([4.0, 0.0, -0.5, -0.5, 0.25, 0.25]), packed([6.0, 0.0, -0.5, -0.5, 0.25, 0.25]));
        let found = IntervalPass { n: 2, pass: &mut ForwardContext::eval() }.add_relu(&x, &y).to_vec::<f32>();
        assert_eq!(found, [10.0, 0.0, -1.0, 0.0, 0.5, 0.0]);
    }

    /// Random points and corners of the ball stay in the intervals, in every architecture that has them.
    #[test]
    fn no_point_of_the_ball_leaves_the_interval() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        for arch in Arch::ALL.into_iter().filter(|arch| arch.has_intervals()) {
            let key = Key::new(7).fold(arch.name());
            let config = EncoderConfig {
                arch,
                width: 0.0625,
                side: 12,
                mean: vec![0.3],
                std: vec![0.4],
                ..EncoderConfig::default()
            };
            let encoder = Encoder::new(&config, &device, key);
            let x = images(&device, key);
            for epsilon in [1e-3, 0.05] {
                let found = encoder.interval_displacement(&x, epsilon, &mut ForwardContext::eval());
                let clean = encoder.forward(&x, &mut ForwardContext::eval());
                for trial in 0..20usize {
                    let noise = images(&device, key.fold("noise").fold(trial)).add_scalar(-0.5);
                    let noise =
                        if trial % 2 == 0 { noise.sign() } else { noise.mul_scalar(2.0).clamp(-1.0, 1.0) };
                    let u = (&x + &noise.mul_scalar(epsilon)).clamp(0.0, 1.0);
                    let moved = &encoder.forward(&u, &mut ForwardContext::eval()) - &clean;
                    let off = (&moved - &found.center).abs().array().to_f64();
                    let [r, z] = [&found.radius, &clean].map(|t| t.array().to_f64());
                    for (i, off) in off.iter().enumerate() {
                        // f32 through up to eighteen layers, relative to the size of the representation; and a few
                        // roundings of 6e-8 of the ends, where the interval is wide.
                        assert!(
                            *off <= r[i] * (1.0 + 1e-6) + 1e-4 * (1.0 + z[i].abs()),
                            "{arch:?} ε = {epsilon}: {off} {}",
                            r[i]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_clean_branch_is_the_forward_pass() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let encoder =
            Encoder::new(&EncoderConfig { width: 0.25, ..EncoderConfig::default() }, &device, Key::new(3));
        let x = images(&device, Key::new(4));
        let (mut ours, mut theirs) = (ForwardContext::train(), ForwardContext::train());
        let found = encoder.interval_displacement(&x, 0.1, &mut ours);
        let z = encoder.forward(&x, &mut theirs);
        for (a, b) in found.clean.array().to_f64().iter().zip(z.array().to_f64()) {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} {b}");
        }
        for (a, b) in ours.statistics().iter().zip(theirs.statistics()) {
            assert_eq!((&a.layer, a.count), (&b.layer, b.count));
            for (a, b) in a.variance.to_f64().iter().zip(b.variance.to_f64()) {
                assert!((a - b).abs() < 1e-4 * (1.0 + b), "{a} {b}");
            }
        }
        assert_eq!(ours.statistics().len(), theirs.statistics().len());
    }

    /// At ε = 0 nothing moves, and every weight has a part in what moves at ε > 0.
    #[test]
    fn the_displacement_is_zero_at_zero_epsilon_and_depends_on_every_weight() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let mut encoder =
            Encoder::new(&EncoderConfig { width: 0.125, ..EncoderConfig::default() }, &device, Key::new(5));
        let x = images(&device, Key::new(6));
        let still = encoder.interval_displacement(&x, 0.0, &mut ForwardContext::eval());
        assert!(still.worst().array().to_f64().iter().all(|&v| v == 0.0));
        track(&mut encoder);
        let moved =
            encoder.interval_displacement(&x, 0.1, &mut ForwardContext::train()).worst().square().sum_all();
        let weights = parameters(&encoder);
        for g in grad(&moved, &weights.iter().collect::<Vec<_>>()) {
            assert!(g.array().to_f64().iter().any(|&v| v != 0.0));
        }
    }
}
