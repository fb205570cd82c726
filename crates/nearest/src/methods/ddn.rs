//! DDN (Rony et al. 2019): the direction of the gradient, and a norm that falls on a mistake and rises otherwise.

use crate::method::{Method, Seen};
use crate::sample::{Found, Sample};
use crate::schedule::{between, cosine, length, unit};
use serde::{Deserialize, Serialize};
use tarrl_attacks::bits;
use tarrl_tensor::math;

/// DDN (Rony et al. 2019), l2.
///
/// It descends the cross-entropy of the scores divided by the clean margin, so that their scale does not matter, and its
/// last changes of the norm are small, so that the norm settles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ddn {
    /// Steps.
    pub steps: usize,
    /// The first norm.
    pub initial_norm: f64,
    /// γ: by which share the norm changes, in the first step and in the last.
    pub gamma: (f64, f64),
}

/// A thousand steps from norm 1; γ from 0.05 to 0.001.
impl Default for Ddn {
    fn default() -> Self {
        Ddn { steps: 1000, initial_norm: 1.0, gamma: (0.05, 0.001) }
    }
}

/// DDN of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DdnState {
    pub(crate) config: Ddn,
    #[serde(with = "bits")]
    scale: f64,
    #[serde(with = "bits")]
    norm: f64,
    step: usize,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl DdnState {
    pub(crate) fn new(config: &Ddn, sample: &Sample, found: &Found, scale: f64) -> Self {
        let norm = if found.is_any() { found.distance } else { config.initial_norm };
        DdnState { config: *config, scale, norm, step: 0, u: sample.x().to_vec() }
    }
}

impl Method for DdnState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        // e^(z_k − z_y) over their sum, and minus the sum of these for the label.
        let gaps: Vec<f64> = z.iter().map(|v| (v - z[y]) / self.scale).collect();
        let top =
            gaps.iter().enumerate().filter(|(k, _)| *k != y).fold(f64::NEG_INFINITY, |m, (_, &v)| m.max(v));
        let mut slope: Vec<f64> = gaps.iter().map(|v| math::exp(v - top)).collect();
        slope[y] = 0.0;
        let all: f64 = slope.iter().sum();
        slope.iter_mut().for_each(|p| *p /= all);
        slope[y] = -1.0;
        vec![slope]
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        let Ddn { steps, gamma, .. } = self.config;
        if self.step >= steps {
            return false;
        }
        let mut direction = unit(&seen.gradients[0]);
        if length(&direction) == 0.0 {
            let mut stream = sample.key.fold("ddn").fold(self.step).stream();
            direction = unit(&direction.iter().map(|_| stream.normal()).collect::<Vec<_>>());
        }
        let size = 0.01 + 0.99 * cosine(self.step, steps);
        let moved: Vec<f64> =
            sample.displacement(&self.u).iter().zip(&direction).map(|(v, d)| v + size * d).collect();
        let change = between(gamma.0, gamma.1, self.step, steps);
        self.norm *= if seen.mistake { 1.0 - change } else { 1.0 + change };
        self.norm = self.norm.min(sample.reach);
        self.u = sample.moved(sample.x(), &unit(&moved), self.norm);
        self.step += 1;
        true
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        let width = sample.width();
        self.u.len() == width && self.step <= self.config.steps
    }
}
