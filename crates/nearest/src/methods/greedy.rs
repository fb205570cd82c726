//! Greedy ascent for l0: one value after the other goes to the end of the box that gains most, towards one class after the
//! other (as the saliency attack of Papernot et al. 2016).

use crate::method::{Method, Seen, rise};
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};
use tarrl_attacks::bits;

/// Greedy ascent, l0. Each step moves the value of largest slope times room; a class is left at a mistake, or where it takes
/// as many values as the sparsest mistake so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Greedy {
    /// The classes aimed at one after the other, the most promising first.
    pub targets: usize,
    /// The values moved at most.
    pub values: usize,
}

/// Five classes, fifty values.
impl Default for Greedy {
    fn default() -> Self {
        Greedy { targets: 5, values: 50 }
    }
}

/// Greedy ascent of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GreedyState {
    pub(crate) config: Greedy,
    targets: Vec<u32>,
    target: usize,
    moved: usize,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl GreedyState {
    /// `order`: the classes, the most promising first.
    pub(crate) fn new(config: &Greedy, sample: &Sample, order: &[u32]) -> Self {
        let targets = order.iter().copied().take(config.targets.max(1)).collect();
        GreedyState { config: *config, targets, target: 0, moved: 0, u: sample.x().to_vec() }
    }
}

impl Method for GreedyState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        let target = self.targets.get(self.target).map_or(0, |&target| target as usize);
        vec![rise(z, y, target.min(z.len() - 1))]
    }

    fn advance(&mut self, sample: &Sample, found: &Found, seen: &Seen<'_>) -> bool {
        let (lo, hi) = sample.ball.bounds();
        let x = sample.x();
        let gain = |i: usize| {
            let g = seen.gradients[0][i];
            let end = if g > 0.0 { hi } else { lo };
            // A value moves once.
            if self.u[i] == x[i] { (g * (f64::from(end) - f64::from(x[i])), end) } else { (0.0, end) }
        };
        let gains = (0..x.len()).map(|i| (i, gain(i)));
        let best = gains.reduce(|best, next| if next.1.0 > best.1.0 { next } else { best });
        let enough = self.moved >= self.config.values || (self.moved + 1) as f64 >= found.distance;
        match best.filter(|best| best.1.0 > 0.0 && !seen.mistake && !enough) {
            Some((i, (_, end))) => {
                self.u[i] = end;
                self.moved += 1;
                true
            }
            None => {
                self.target += 1;
                self.moved = 0;
                self.u.copy_from_slice(x);
                self.target < self.targets.len()
            }
        }
    }

    fn fits(&self, sample: &Sample, classes: usize) -> bool {
        self.u.len() == sample.width()
            && self.moved <= self.config.values
            && self.target < self.targets.len()
            && self.targets.iter().all(|&k| (k as usize) < classes)
    }
}
