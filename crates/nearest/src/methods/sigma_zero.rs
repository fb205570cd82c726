//! Adam on the margin and a smooth count of the values that have moved: σ-zero (Cinà et al. 2025).

use crate::method::{Method, Seen};
use crate::sample::{Found, Sample};
use crate::schedule::{Adam, between};
use serde::{Deserialize, Serialize};
use tarrl_attacks::bits;

/// σ-zero (Cinà et al. 2025), l0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigmaZero {
    /// Steps.
    pub steps: usize,
    /// The first rate of Adam, which falls to a tenth.
    pub rate: f64,
    /// σ: squares well above it count as one value.
    pub sigma: f64,
    /// The first threshold below which a value goes back.
    pub threshold: f64,
    /// The change of the threshold, times the rate.
    pub threshold_rate: f64,
}

/// A thousand steps at a rate of 1; σ = 0.001.
impl Default for SigmaZero {
    fn default() -> Self {
        SigmaZero { steps: 1000, rate: 1.0, sigma: 1e-3, threshold: 0.3, threshold_rate: 0.01 }
    }
}

/// σ-zero of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SigmaZeroState {
    pub(crate) config: SigmaZero,
    #[serde(with = "bits")]
    scale: f64,
    #[serde(with = "bits")]
    threshold: f64,
    adam: Adam,
    step: usize,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl SigmaZeroState {
    /// From the sample itself: a mistake that is not sparse is no good start.
    pub(crate) fn new(config: &SigmaZero, sample: &Sample, scale: f64) -> Self {
        SigmaZeroState {
            config: *config,
            scale,
            threshold: config.threshold,
            adam: Adam::new(sample.width()),
            step: 0,
            u: sample.x().to_vec(),
        }
    }
}

impl Method for SigmaZeroState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        let config = self.config;
        if self.step >= config.steps {
            return false;
        }
        let (width, sigma) = (sample.width() as f64, config.sigma);
        let moved = sample.displacement(&self.u);
        let pull = if seen.margin > 0.0 { 1.0 / self.scale } else { 0.0 };
        let slope = |(v, g): (&f64, &f64)| 2.0 * sigma * v / (width * (v * v + sigma).powi(2)) - pull * g;
        let mut gradient: Vec<f64> = moved.iter().zip(&seen.gradients[0]).map(slope).collect();
        let largest = gradient.iter().fold(1e-12f64, |m, g| m.max(g.abs()));
        gradient.iter_mut().for_each(|g| *g /= largest);
        let (mean, root) = self.adam.update(&gradient, self.step + 1);
        let step: Vec<f64> = mean.iter().zip(&root).map(|(m, r)| m / r).collect();
        let rate = config.rate * between(1.0, 0.1, self.step, config.steps);
        self.u = sample.moved(&self.u, &step, -rate);
        let change = if seen.mistake { rate } else { -rate } * config.threshold_rate;
        self.threshold = (self.threshold + change).clamp(0.0, 1.0);
        for (u, &x) in self.u.iter_mut().zip(sample.x()) {
            if f64::from((*u - x).abs()) < self.threshold {
                *u = x;
            }
        }
        self.step += 1;
        true
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        let width = sample.width();
        self.u.len() == width && self.adam.fits(width) && self.step <= self.config.steps
    }
}
