//! PDPGD (Matyasko & Chau 2021): Adam on the margin, and the proximal operator of the norm in Adam's metric.

use crate::method::{Method, Seen};
use crate::methods::primal_dual::PrimalDual;
use crate::sample::{Found, Sample};
use crate::schedule::length;
use serde::{Deserialize, Serialize};
use tarrl_attacks::Norm;
use tarrl_tensor::math;

/// Proximal steps at most, and the relative change that ends them.
const PROXIMAL: (usize, f64) = (5, 0.01);

/// PDPGD (Matyasko & Chau 2021), all norms.
///
/// In l0 the proximal operator is that of the sum of |δ|^(2/3), value by value. The margin is divided by that of the clean
/// sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pdpgd {
    /// Steps.
    pub steps: usize,
    /// The first rate of Adam, which falls to a hundredth.
    pub rate: f64,
    /// The first step of the dual variable, which falls to a tenth.
    pub dual_rate: f64,
}

/// A thousand steps at rates of 0.1.
impl Default for Pdpgd {
    fn default() -> Self {
        Pdpgd { steps: 1000, rate: 0.1, dual_rate: 0.1 }
    }
}

/// PDPGD of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PdpgdState {
    pub(crate) config: Pdpgd,
    common: PrimalDual,
}

impl PdpgdState {
    /// From the nearest mistake if there is one.
    pub(crate) fn new(config: &Pdpgd, sample: &Sample, found: &Found, scale: f64) -> Self {
        PdpgdState { config: *config, common: PrimalDual::new(sample, found, scale) }
    }
}

impl Method for PdpgdState {
    fn point(&self) -> &[f32] {
        &self.common.u
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        let (Pdpgd { steps, rate, dual_rate }, common) = (self.config, &mut self.common);
        if common.is_over(steps) {
            return false;
        }
        let pull = common.pull(1.0, seen.margin);
        let gradient: Vec<f64> = seen.gradients[0].iter().map(|g| -pull * g).collect();
        let (mean, root) = common.moments(&gradient);
        let size = common.rate(rate, steps);
        let descended: Vec<f64> = sample
            .displacement(&common.u)
            .iter()
            .zip(mean.iter().zip(&root))
            .map(|(v, (m, r))| v - size * m / r)
            .collect();
        let widest = root.iter().copied().fold(0.0, f64::max);
        let (near, wrong) = common.weights();
        let weight = near / wrong * size / widest;
        let mut u = common.u.clone();
        let mut v = descended.clone();
        for _ in 0..PROXIMAL.0 {
            let before = v.clone();
            let toward = v.iter().zip(&descended).zip(&root).map(|((v, d), r)| v - r / widest * (v - d));
            v = proximal(sample.norm(), toward.collect(), weight);
            u = sample.moved(sample.x(), &v, 1.0);
            v = sample.displacement(&u);
            let change: Vec<f64> = v.iter().zip(&before).map(|(a, b)| a - b).collect();
            if length(&change) < PROXIMAL.1 * length(&before) {
                break;
            }
        }
        common.advance(u, seen.mistake, dual_rate, steps);
        true
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        self.common.fits(sample, self.config.steps)
    }
}

/// argmin_z ½ ‖z − v‖² + weight ‖z‖.
fn proximal(norm: Norm, v: Vec<f64>, weight: f64) -> Vec<f64> {
    match norm {
        Norm::L1 => v.iter().map(|v| v.signum() * (v.abs() - weight).max(0.0)).collect(),
        Norm::L2 => {
            let length = length(&v);
            let keep = if length > weight { 1.0 - weight / length } else { 0.0 };
            v.iter().map(|v| keep * v).collect()
        }
        // v less its projection on the l1 ball of that radius: cut at the level that takes the weight away.
        Norm::Linf => {
            let level = level(&v, weight);
            v.iter().map(|v| v.clamp(-level, level)).collect()
        }
        Norm::L0 => v.iter().map(|v| two_thirds(*v, weight)).collect(),
    }
}

/// The level at which Σ max(|v_i| − level, 0) is `weight`; 0 if the sum is less everywhere.
fn level(v: &[f64], weight: f64) -> f64 {
    let mut sizes: Vec<f64> = v.iter().map(|v| v.abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0;
    for (i, &size) in sizes.iter().enumerate() {
        sum += size;
        let level = (sum - weight) / (i + 1) as f64;
        let next = sizes.get(i + 1).copied().unwrap_or(0.0);
        if level >= next {
            return level.max(0.0);
        }
    }
    0.0
}

/// argmin_z ½ (z − v)² + weight |z|^(2/3) (Cao, Sun & Xu 2013).
fn two_thirds(v: f64, weight: f64) -> f64 {
    let twice = 2.0 * weight;
    let threshold = 2.0 / 3.0 * math::powf(3.0 * twice.powi(3), 0.25);
    if v.abs() <= threshold || twice == 0.0 {
        return if twice == 0.0 { v } else { 0.0 };
    }
    let angle = 27.0 * v * v / 16.0 * math::powf(twice, -1.5);
    // acosh
    let phi = math::ln(angle + (angle * angle - 1.0).max(0.0).sqrt());
    let cosh = 0.5 * (math::exp(phi / 3.0) + math::exp(-phi / 3.0));
    let a = 2.0 / 3.0f64.sqrt() * twice.sqrt().sqrt() * cosh.sqrt();
    let root = (2.0 * v.abs() / a - a * a).max(0.0).sqrt();
    v.signum() * (0.5 * (a + root)).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No point of a fine grid has a smaller objective, for each norm that is a sum over coordinates; the others at random
    /// displacements around.
    #[test]
    fn proximal_operators_minimize_their_objective() {
        let objective = |norm: Norm, z: &[f64], v: &[f64], weight: f64| {
            let size = match norm {
                Norm::L0 => z.iter().map(|z| z.abs().powf(2.0 / 3.0)).sum::<f64>(),
                norm => norm.length(z.iter().copied()),
            };
            0.5 * z.iter().zip(v).map(|(z, v)| (z - v).powi(2)).sum::<f64>() + weight * size
        };
        let mut stream = tarrl_tensor::Key::new(1).stream();
        for trial in 0..200 {
            let v: Vec<f64> = (0..4).map(|_| stream.normal()).collect();
            let weight = stream.uniform(0.01, 1.5);
            for norm in Norm::ALL {
                let z = proximal(norm, v.clone(), weight);
                let least = objective(norm, &z, &v, weight);
                for _ in 0..200 {
                    let size = stream.uniform(0.0, 1.0);
                    let other: Vec<f64> = z
                        .iter()
                        .map(|z| if stream.chance(0.3) { 0.0 } else { z + size * stream.normal() })
                        .collect();
                    assert!(
                        objective(norm, &other, &v, weight) >= least - 1e-9,
                        "{trial} {norm} {v:?} {z:?} {other:?}"
                    );
                }
            }
        }
    }
}
