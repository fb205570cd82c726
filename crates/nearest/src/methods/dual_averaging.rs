//! Dual averaging for l0: the values of largest averaged slope are at the ends of the box, one fewer than in the sparsest
//! mistake.

use crate::method::{Method, Seen, rise, rival};
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};
use tarrl_attacks::bits;

/// Dual averaging (Nesterov 2009) over supports, l0. It begins at the sparsest mistake, and does nothing without one.
///
/// With one value fewer than the sparsest mistake has, each step chooses anew which values move: those whose averaged slope
/// times the room to the end of the box is largest. Averages pass over kinks that mislead a single gradient. Where the gap
/// stops closing, the next start is taken: in turn the sample itself towards one class after the other, and a random half of
/// the sparsest mistake.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DualAveraging {
    /// Steps.
    pub steps: usize,
    /// Steps without a smaller gap after which the next start is taken.
    pub patience: usize,
    /// The share of the averaged slope that stays in each step.
    pub keep: f64,
}

/// Four hundred steps; the next start after fifteen in vain; four fifths of the slope stay.
impl Default for DualAveraging {
    fn default() -> Self {
        DualAveraging { steps: 400, patience: 15, keep: 0.8 }
    }
}

/// Dual averaging of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DualAveragingState {
    pub(crate) config: DualAveraging,
    /// The classes, the most promising first.
    targets: Vec<u32>,
    step: usize,
    /// Starts before this one.
    starts: usize,
    /// Steps since the gap was smallest, and that gap.
    since: usize,
    #[serde(with = "bits")]
    least: f64,
    /// The averaged slope.
    #[serde(with = "bits")]
    slope: Vec<f64>,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl DualAveragingState {
    /// `order`: the classes, the most promising first.
    pub(crate) fn new(config: &DualAveraging, sample: &Sample, found: &Found, order: &[u32]) -> Self {
        let begins = found.is_any() && sample.threat.bounds.is_some();
        DualAveragingState {
            config: *config,
            targets: order.to_vec(),
            step: if begins { 0 } else { config.steps },
            starts: 0,
            since: 0,
            least: f64::INFINITY,
            slope: vec![0.0; sample.width()],
            u: if begins { found.point.clone() } else { sample.x().to_vec() },
        }
    }

    /// The class aimed at: that of this start, or whichever is nearest.
    fn aim(&self, z: &[f64], y: usize) -> usize {
        let number = self.starts / 2 % self.targets.len().max(1);
        let target = self.targets.get(number).map(|&target| target as usize).filter(|_| self.starts % 2 == 1);
        target.filter(|&k| k < z.len() && k != y).unwrap_or_else(|| rival(z, y))
    }

    /// The next start.
    fn restart(&mut self, sample: &Sample, found: &Found) {
        self.starts += 1;
        (self.since, self.least) = (0, f64::INFINITY);
        self.slope.fill(0.0);
        self.u.copy_from_slice(sample.x());
        if self.starts.is_multiple_of(2) {
            let mut stream = sample.key.fold("dual-averaging").fold(self.starts).stream();
            for (u, &mistake) in self.u.iter_mut().zip(&found.point) {
                if stream.chance(0.5) {
                    *u = mistake;
                }
            }
        }
    }
}

impl Method for DualAveragingState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        vec![rise(z, y, self.aim(z, y))]
    }

    fn advance(&mut self, sample: &Sample, found: &Found, seen: &Seen<'_>) -> bool {
        // One value fewer than the sparsest mistake.
        let goal = found.distance - 1.0;
        if self.step >= self.config.steps || goal < 1.0 {
            return false;
        }
        self.step += 1;
        let gap = seen.z[sample.label] - seen.z[self.aim(seen.z, sample.label)];
        if seen.mistake || gap < self.least {
            (self.since, self.least) = (0, if seen.mistake { f64::INFINITY } else { gap });
        } else {
            self.since += 1;
        }
        if self.since >= self.config.patience {
            self.restart(sample, found);
            return true;
        }
        let keep = self.config.keep;
        for (slope, g) in self.slope.iter_mut().zip(&seen.gradients[0]) {
            *slope = keep * *slope + (1.0 - keep) * g;
        }
        let (x, (lo, hi)) = (sample.x(), sample.ball.bounds());
        let end = |i: usize| if self.slope[i] > 0.0 { hi } else { lo };
        let worth: Vec<f64> =
            (0..x.len()).map(|i| self.slope[i] * (f64::from(end(i)) - f64::from(x[i]))).collect();
        let mut order: Vec<usize> = (0..x.len()).filter(|&i| worth[i] > 0.0).collect();
        order.sort_by(|&a, &b| worth[b].total_cmp(&worth[a]).then(a.cmp(&b)));
        order.truncate(goal as usize);
        let mut u = x.to_vec();
        for i in order {
            u[i] = end(i);
        }
        self.u = u;
        true
    }

    fn fits(&self, sample: &Sample, classes: usize) -> bool {
        let width = sample.width();
        self.u.len() == width
            && self.slope.len() == width
            && self.step <= self.config.steps
            && self.starts <= self.config.steps
            && self.targets.iter().all(|&k| (k as usize) < classes)
    }
}
