//! FMN (Pintor et al. 2021): steps along the gradient of the margin, projected on a ball that falls on a mistake and rises
//! otherwise.

use crate::method::{Method, Seen};
use crate::sample::{Found, Sample};
use crate::schedule::{between, unit};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, bits};

/// The way beyond the linearized face that a ball of a sample without a mistake reaches.
const BEYOND: f64 = 1.02;

/// FMN (Pintor et al. 2021), all norms, with projections that know the box.
///
/// Until a mistake is found, the radius is the length of the displacement plus the distance of the linearized face.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fmn {
    /// Steps.
    pub steps: usize,
    /// The l2 length of the first step and of the last.
    pub alpha: (f64, f64),
    /// γ: by which share the radius changes, in the first step and in the last.
    pub gamma: (f64, f64),
}

impl Fmn {
    /// The published setting of a norm: lengths of 1 (l-infinity: 10) falling to a hundredth, γ from 0.05 to 0.001.
    pub fn new(norm: Norm, steps: usize) -> Self {
        let alpha = if norm == Norm::Linf { 10.0 } else { 1.0 };
        Fmn { steps, alpha: (alpha, 0.01 * alpha), gamma: (0.05, 0.001) }
    }
}

impl Default for Fmn {
    fn default() -> Self {
        Fmn::new(Norm::L2, 1000)
    }
}

/// FMN of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FmnState {
    pub(crate) config: Fmn,
    #[serde(with = "bits")]
    radius: f64,
    step: usize,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl FmnState {
    /// From the nearest mistake if there is one.
    pub(crate) fn new(config: &Fmn, sample: &Sample, found: &Found) -> Self {
        let (u, radius) = if found.is_any() {
            (found.point.clone(), found.distance)
        } else {
            (sample.x().to_vec(), f64::INFINITY)
        };
        FmnState { config: *config, radius, step: 0, u }
    }
}

impl Method for FmnState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn advance(&mut self, sample: &Sample, found: &Found, seen: &Seen<'_>) -> bool {
        let Fmn { steps, alpha, gamma } = self.config;
        if self.step >= steps {
            return false;
        }
        let change = between(gamma.0, gamma.1, self.step, steps);
        let gradient = &seen.gradients[0];
        let sparse = sample.norm() == Norm::L0;
        self.radius = if seen.mistake {
            let less = self.radius.min(seen.distance) * (1.0 - change);
            if sparse {
                (seen.distance - 1.0).min(less.floor()).min(found.distance)
            } else {
                less.min(found.distance)
            }
        } else if found.is_any() {
            let more = self.radius * (1.0 + change);
            if sparse { (self.radius + 1.0).max(more.floor()) } else { more }
        } else {
            // The dual norm of l0's relaxation is that of l1.
            let dual = sample.norm().dual().unwrap_or(Norm::Linf).length(gradient.iter().copied());
            let far = if dual > 0.0 { BEYOND * seen.margin.abs() / dual } else { 0.0 };
            let here = seen.distance;
            if sparse {
                (here + 1.0).max((here * (1.0 + change)).floor())
            } else {
                (here + far) * (1.0 + 1e-4)
            }
        };
        self.radius = self.radius.min(sample.reach).max(0.0);
        let size = between(alpha.0, alpha.1, self.step, steps);
        self.u = sample.moved(&self.u, &unit(gradient), size);
        sample.project(&mut self.u, self.radius);
        self.step += 1;
        true
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        let width = sample.width();
        self.u.len() == width && self.step <= self.config.steps
    }
}
