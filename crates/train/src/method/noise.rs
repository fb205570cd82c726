//! Noise on representations: what the objective sees of them (section C of docs/theory.md).

use serde::{Deserialize, Serialize};
use tarrl_bound::total_deviation;
use tarrl_tensor::Tensor;

/// The objective compares `f(x) + s ξ` in the place of `f(x)`, with ξ standard normal, drawn anew for every view of every image
/// in every step. In a file: `noise = { sigma = 0.25 }`.
///
/// Momentum encoders, teachers, attacks and the other terms see representations without noise; R has the noise in its scale.
/// The gradient goes through the unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseConfig {
    /// σ: the deviation s of the noise in its unit; above 0.
    pub sigma: f64,
    /// What σ is measured in.
    #[serde(default, skip_serializing_if = "NoiseUnit::is_spread")]
    pub unit: NoiseUnit,
}

/// The unit of σ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseUnit {
    /// The root mean square distance of the batch from its mean, so that no scale of the representation changes what the
    /// noise hides. That of R's `scale = "relative-noise"`.
    #[default]
    Spread,
    /// One: a network that shrinks its representations loses them in the noise. That of R's `scale = "noise"`.
    Fixed,
}

impl NoiseUnit {
    fn is_spread(&self) -> bool {
        *self == NoiseUnit::Spread
    }
}

impl NoiseConfig {
    /// `z + s ξ` for representations `z` and standard normal noise, both `(m, d)`; differentiable in `z`.
    #[track_caller]
    pub(crate) fn apply(&self, z: &Tensor, noise: &Tensor) -> Tensor {
        let noise = noise.cast(z.dtype()).mul_scalar(self.sigma);
        match self.unit {
            NoiseUnit::Fixed => z + &noise,
            NoiseUnit::Spread => z + &(&noise * &total_deviation(z)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{DType, Key, Random, cpu, grad};

    fn normal(name: &str) -> Tensor {
        let keys: Vec<Key> = (0..5usize).map(|i| Key::new(1).fold(name).fold(i)).collect();
        Tensor::random(&cpu(), Random::Normal, &keys, &[3], DType::F64)
    }

    /// Four corners of a square, √2 from their middle.
    #[test]
    fn noise_is_in_units_of_the_spread_or_of_one() {
        let z = Tensor::new(&cpu(), [4, 2], &[0.0f64, 0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0]);
        let one = Tensor::full(&cpu(), [4, 2], DType::F64, 1.0);
        let moved = |unit| (&NoiseConfig { sigma: 0.5, unit }.apply(&z, &one) - &z).to_vec::<f64>();
        assert!(moved(NoiseUnit::Spread).iter().all(|v| (v - 0.5 * 2f64.sqrt()).abs() < 1e-15));
        assert!(moved(NoiseUnit::Fixed).iter().all(|v| *v == 0.5));
    }

    #[test]
    fn relative_noise_scales_with_the_representation() {
        let (z, noise) = (normal("z"), normal("noise"));
        let of = |unit, scale: f64| {
            NoiseConfig { sigma: 0.3, unit }.apply(&z.mul_scalar(scale), &noise).to_vec::<f64>()
        };
        for (a, b) in of(NoiseUnit::Spread, 1.0).iter().zip(of(NoiseUnit::Spread, 100.0)) {
            assert!((100.0 * a - b).abs() < 1e-12 * b.abs().max(1.0));
        }
        // A fixed one does not: small representations are lost in it.
        let small = of(NoiseUnit::Fixed, 1e-9);
        assert!(small.iter().zip(noise.to_vec::<f64>()).all(|(a, b)| (a - 0.3 * b).abs() < 1e-8));
    }

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let (z, noise, weight) = (normal("z"), normal("noise"), normal("weight"));
        for unit in [NoiseUnit::Spread, NoiseUnit::Fixed] {
            let config = NoiseConfig { sigma: 0.7, unit };
            let value = |z: &Tensor| (&config.apply(z, &noise).square() * &weight).sum_all();
            let tracked = z.requires_grad();
            let found = grad(&value(&tracked), &[&tracked]).remove(0).to_vec::<f64>();
            let at = z.to_vec::<f64>();
            for i in 0..at.len() {
                let shifted = |h: f64| {
                    let mut moved = at.clone();
                    moved[i] += h;
                    value(&Tensor::new(&cpu(), [5, 3], &moved)).item()
                };
                // Third derivatives of order one times h², and roundings over h.
                let difference = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                assert!((found[i] - difference).abs() < 1e-7 * difference.abs().max(1.0), "{unit:?} {i}");
            }
        }
    }
}
