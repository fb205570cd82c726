//! PDGD (Matyasko & Chau 2021): Adam on distance and margin, whose weights are the dual variables.

use crate::method::{Method, Seen};
use crate::methods::primal_dual::PrimalDual;
use crate::sample::{Found, Sample};
use crate::schedule::length;
use serde::{Deserialize, Serialize};

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

/// PDGD of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PdgdState {
    pub(crate) config: Pdgd,
    common: PrimalDual,
}

impl PdgdState {
    /// From the nearest mistake if there is one.
    pub(crate) fn new(config: &Pdgd, sample: &Sample, found: &Found, scale: f64) -> Self {
        PdgdState { config: *config, common: PrimalDual::new(sample, found, scale) }
    }
}

impl Method for PdgdState {
    fn point(&self) -> &[f32] {
        &self.common.u
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        let (Pdgd { steps, rate, dual_rate }, common) = (self.config, &mut self.common);
        if common.is_over(steps) {
            return false;
        }
        let (near, wrong) = common.weights();
        let moved = sample.displacement(&common.u);
        let size = length(&moved);
        let pull = common.pull(wrong, seen.margin);
        let slope = |(v, g): (&f64, &f64)| if size > 0.0 { near * v / size - pull * g } else { -pull * g };
        let gradient: Vec<f64> = moved.iter().zip(&seen.gradients[0]).map(slope).collect();
        let (mean, root) = common.moments(&gradient);
        let step: Vec<f64> = mean.iter().zip(&root).map(|(m, r)| m / r).collect();
        let u = sample.moved(&common.u, &step, -common.rate(rate, steps));
        common.advance(u, seen.mistake, dual_rate, steps);
        true
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        self.common.fits(sample, self.config.steps)
    }
}
