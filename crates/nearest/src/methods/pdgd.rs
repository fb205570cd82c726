//! PDGD (Matyasko & Chau 2021): Adam on distance and margin, whose weights are the dual variables.

use crate::method::{Method, Seen};
use crate::sample::{Found, Sample};
use crate::schedule::{Adam, length, to_a_hundredth};
use serde::{Deserialize, Serialize};
use tarrl_attacks::bits;
use tarrl_tensor::math;

/// PDGD (Matyasko & Chau 2021), l2.
///
/// The margin is divided by that of the clean sample, so that the scale of the scores does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pdgd {
    /// Steps.
    pub steps: usize,
    /// The first rate of Adam, which falls to a hundredth.
    pub rate: f64,
    /// The first step of the dual variable, which falls to a tenth.
    pub dual_rate: f64,
}

/// A thousand steps at rates of 0.1.
impl Default for Pdgd {
    fn default() -> Self {
        Pdgd { steps: 1000, rate: 0.1, dual_rate: 0.1 }
    }
}

/// The weights of the distance and of the margin, from a dual variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dual {
    #[serde(with = "bits")]
    lambda: f64,
    /// The weight of the margin, averaged over steps; that of the distance is the rest.
    #[serde(with = "bits")]
    weight: f64,
}

impl Dual {
    /// The margin weighs a hundredth of the distance.
    pub(crate) fn new() -> Self {
        let lambda = -math::ln(100.0);
        Dual { lambda, weight: share(lambda) }
    }

    /// The weights of the distance and of the margin.
    pub(crate) fn weights(&self) -> (f64, f64) {
        (1.0 - self.weight, self.weight)
    }

    /// Weighs the margin more, or less on a mistake.
    pub(crate) fn update(&mut self, mistake: bool, size: f64) {
        let most = math::ln(1e6);
        self.lambda = (self.lambda + if mistake { -size } else { size }).clamp(-most, most);
        self.weight = 0.9 * self.weight + 0.1 * share(self.lambda);
    }
}

fn share(lambda: f64) -> f64 {
    1.0 / (1.0 + math::exp(-lambda))
}

/// The slope of softplus.
pub(crate) fn logistic(m: f64) -> f64 {
    share(m)
}

/// PDGD of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PdgdState {
    pub(crate) config: Pdgd,
    #[serde(with = "bits")]
    scale: f64,
    dual: Dual,
    adam: Adam,
    step: usize,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl PdgdState {
    /// From the nearest mistake if there is one.
    pub(crate) fn new(config: &Pdgd, sample: &Sample, found: &Found, scale: f64) -> Self {
        let start = if found.is_any() { &found.point[..] } else { sample.x() };
        let adam = Adam::new(sample.width());
        PdgdState { config: *config, scale, dual: Dual::new(), adam, step: 0, u: start.to_vec() }
    }
}

impl Method for PdgdState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        let Pdgd { steps, rate, dual_rate } = self.config;
        if self.step >= steps {
            return false;
        }
        let (near, wrong) = self.dual.weights();
        let moved = sample.displacement(&self.u);
        let size = length(&moved);
        let pull = wrong * logistic(seen.margin / self.scale) / self.scale;
        let slope = |(v, g): (&f64, &f64)| if size > 0.0 { near * v / size - pull * g } else { -pull * g };
        let gradient: Vec<f64> = moved.iter().zip(&seen.gradients[0]).map(slope).collect();
        let (mean, root) = self.adam.update(&gradient, self.step + 1);
        let step: Vec<f64> = mean.iter().zip(&root).map(|(m, r)| m / r).collect();
        let part = self.step as f64 / steps as f64;
        self.u = sample.moved(&self.u, &step, -rate * to_a_hundredth(self.step as f64, steps as f64));
        self.dual.update(seen.mistake, dual_rate * (1.0 - 0.9 * part));
        self.step += 1;
        true
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        let width = sample.width();
        self.u.len() == width && self.adam.fits(width) && self.step <= self.config.steps
    }
}
