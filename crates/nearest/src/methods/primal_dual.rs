//! What PDGD and PDPGD share: Adam's moments, and the dual variable that weighs the distance against the margin.

use crate::sample::{Found, Sample};
use crate::schedule::{Adam, to_a_hundredth};
use serde::{Deserialize, Serialize};
use tarrl_attacks::bits;
use tarrl_tensor::math;

/// The weights of the distance and of the margin, from a dual variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Dual {
    #[serde(with = "bits")]
    lambda: f64,
    /// The weight of the margin, averaged over steps; that of the distance is the rest.
    #[serde(with = "bits")]
    weight: f64,
}

impl Dual {
    /// The margin weighs a hundredth of the distance.
    fn new() -> Self {
        let lambda = -math::ln(100.0);
        Dual { lambda, weight: share(lambda) }
    }

    /// The weights of the distance and of the margin.
    fn weights(&self) -> (f64, f64) {
        (1.0 - self.weight, self.weight)
    }

    /// Weighs the margin more, or less on a mistake.
    fn update(&mut self, mistake: bool, size: f64) {
        let most = math::ln(1e6);
        self.lambda = (self.lambda + if mistake { -size } else { size }).clamp(-most, most);
        self.weight = 0.9 * self.weight + 0.1 * share(self.lambda);
    }
}

fn share(lambda: f64) -> f64 {
    1.0 / (1.0 + math::exp(-lambda))
}

/// The steps of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PrimalDual {
    /// The clean margin, by which margins are divided.
    #[serde(with = "bits")]
    scale: f64,
    dual: Dual,
    adam: Adam,
    step: usize,
    #[serde(with = "bits")]
    pub(crate) u: Vec<f32>,
}

impl PrimalDual {
    /// From the nearest mistake if there is one.
    pub(crate) fn new(sample: &Sample, found: &Found, scale: f64) -> Self {
        let start = if found.is_any() { &found.point[..] } else { sample.x() };
        let adam = Adam::new(sample.width());
        PrimalDual { scale, dual: Dual::new(), adam, step: 0, u: start.to_vec() }
    }

    /// Whether all steps are done.
    pub(crate) fn is_over(&self, steps: usize) -> bool {
        self.step >= steps
    }

    /// So many times the slope of softplus at a margin.
    pub(crate) fn pull(&self, times: f64, margin: f64) -> f64 {
        times * share(margin / self.scale) / self.scale
    }

    /// The weights of the distance and of the margin.
    pub(crate) fn weights(&self) -> (f64, f64) {
        self.dual.weights()
    }

    /// Adam's mean and root of this step's gradient.
    pub(crate) fn moments(&mut self, gradient: &[f64]) -> (Vec<f64>, Vec<f64>) {
        self.adam.update(gradient, self.step + 1)
    }

    /// The rate of this step: from `rate` to a hundredth of it.
    pub(crate) fn rate(&self, rate: f64, steps: usize) -> f64 {
        rate * to_a_hundredth(self.step as f64, steps as f64)
    }

    /// Moves to `u` and weighs the margin anew, by a step from `rate` to a tenth of it.
    pub(crate) fn advance(&mut self, u: Vec<f32>, mistake: bool, rate: f64, steps: usize) {
        self.u = u;
        let part = self.step as f64 / steps as f64;
        self.dual.update(mistake, rate * (1.0 - 0.9 * part));
        self.step += 1;
    }

    /// Whether a stored state can be one on a sample.
    pub(crate) fn fits(&self, sample: &Sample, steps: usize) -> bool {
        let width = sample.width();
        self.u.len() == width && self.adam.fits(width) && self.step <= steps
    }
}
