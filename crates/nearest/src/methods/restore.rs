//! Greedy restoring for l0: values go back as long as the point stays a mistake; then one other value may join.

use crate::method::{Method, Seen, rise, rival};
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};
use tarrl_attacks::bits;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// At a mistake, whose gradient is wanted.
    Mistake,
    /// At the same values at the ends of the box.
    Pushed,
    /// With some values gone back.
    Restored,
}

/// Restoring of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RestoreState {
    /// Evaluations that are left.
    pub(crate) left: usize,
    phase: Phase,
    /// The mistake that values go back from, and its margin.
    #[serde(with = "bits")]
    base: Vec<f32>,
    #[serde(with = "bits")]
    margin: f64,
    /// The gradient of the rival's gap at the sparsest mistake.
    #[serde(with = "bits")]
    gradient: Vec<f64>,
    /// The sparsest mistake.
    #[serde(with = "bits")]
    sparsest: Vec<f32>,
    /// The moved values in the order in which they go back, how many have been tried, and how many at a time.
    order: Vec<u32>,
    tried: usize,
    together: usize,
    /// The values that may join one after the other, and how many have.
    candidates: Vec<u32>,
    joined: usize,
    /// How many may.
    pub(crate) exchanges: usize,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl RestoreState {
    /// At most so many evaluations, and so many values that may join for two that go.
    pub(crate) fn new(sample: &Sample, found: &Found, evaluations: usize, exchanges: usize) -> Self {
        let start = if found.is_any() { found.point.clone() } else { sample.x().to_vec() };
        RestoreState {
            left: if found.is_any() { evaluations } else { 0 },
            phase: Phase::Mistake,
            base: start.clone(),
            margin: f64::INFINITY,
            gradient: Vec::new(),
            sparsest: start.clone(),
            order: Vec::new(),
            tried: 0,
            together: 1,
            candidates: Vec::new(),
            joined: 0,
            exchanges,
            u: start,
        }
    }

    /// The end of the box that a value is worth most at.
    fn end(&self, sample: &Sample, i: usize) -> f32 {
        let (lo, hi) = sample.ball.bounds();
        if self.gradient[i] > 0.0 { hi } else { lo }
    }

    /// What a value gains the attacker where it stands.
    fn gain(&self, sample: &Sample, u: &[f32], i: usize) -> f64 {
        self.gradient[i] * (f64::from(u[i]) - f64::from(sample.x()[i]))
    }

    /// Begins to put values of `base` back, the least useful first.
    fn begin(&mut self, sample: &Sample, last: Option<u32>) -> bool {
        let x = sample.x();
        let mut order: Vec<u32> =
            (0..x.len() as u32).filter(|&i| self.base[i as usize] != x[i as usize]).collect();
        let gains: Vec<f64> = (0..x.len()).map(|i| self.gain(sample, &self.base, i)).collect();
        order.sort_by(|&a, &b| gains[a as usize].total_cmp(&gains[b as usize]));
        // The one that has just joined does not go first.
        if let Some(last) = last {
            order.retain(|&i| i != last);
            order.push(last);
        }
        self.together = (order.len() / 8).max(1);
        (self.order, self.tried) = (order, 0);
        self.phase = Phase::Restored;
        self.put_back(sample)
    }

    /// The next values go back; `false` if there is none.
    fn put_back(&mut self, sample: &Sample) -> bool {
        if self.tried >= self.order.len() {
            return self.join(sample);
        }
        let end = (self.tried + self.together).min(self.order.len());
        self.u.clone_from(&self.base);
        for &i in &self.order[self.tried..end] {
            self.u[i as usize] = sample.x()[i as usize];
        }
        true
    }

    /// A value joins the sparsest mistake; `false` if there is none left.
    fn join(&mut self, sample: &Sample) -> bool {
        let x = sample.x();
        if self.sparsest.iter().zip(x).filter(|(u, x)| u != x).count() < 2 {
            return false;
        }
        if self.candidates.is_empty() && self.exchanges > 0 {
            let gain = |i: usize| self.gradient[i] * (f64::from(self.end(sample, i)) - f64::from(x[i]));
            let gains: Vec<f64> = (0..x.len()).map(gain).collect();
            let mut all: Vec<u32> = (0..x.len() as u32)
                .filter(|&i| self.sparsest[i as usize] == x[i as usize] && gains[i as usize] > 0.0)
                .collect();
            all.sort_by(|&a, &b| gains[b as usize].total_cmp(&gains[a as usize]));
            all.truncate(self.exchanges);
            (self.candidates, self.joined) = (all, 0);
        }
        let Some(&joins) = self.candidates.get(self.joined) else { return false };
        self.joined += 1;
        self.base.clone_from(&self.sparsest);
        self.base[joins as usize] = self.end(sample, joins as usize);
        self.begin(sample, Some(joins))
    }
}

impl Method for RestoreState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn wants_gradients(&self) -> bool {
        self.phase == Phase::Mistake
    }

    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        if self.wants_gradients() { vec![rise(z, y, rival(z, y))] } else { Vec::new() }
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        match self.phase {
            Phase::Mistake => {
                let Some(gradient) = seen.gradients.first().filter(|_| seen.mistake) else { return false };
                self.gradient.clone_from(gradient);
                self.margin = seen.margin;
                self.candidates.clear();
                self.phase = Phase::Pushed;
                for i in 0..self.u.len() {
                    if self.u[i] != sample.x()[i] {
                        self.u[i] = self.end(sample, i);
                    }
                }
                true
            }
            Phase::Pushed => {
                if seen.mistake && seen.margin < self.margin {
                    self.base.clone_from(&self.u);
                }
                self.begin(sample, None)
            }
            Phase::Restored => {
                let end = (self.tried + self.together).min(self.order.len());
                if seen.mistake {
                    self.base.clone_from(&self.u);
                    self.tried = end;
                } else if self.together > 1 {
                    self.together = self.together.div_ceil(2);
                } else {
                    self.tried = end;
                }
                if self.tried < self.order.len() {
                    return self.put_back(sample);
                }
                let count = |u: &[f32]| sample.ball.distance(u);
                if count(&self.base) < count(&self.sparsest) {
                    self.sparsest.clone_from(&self.base);
                    self.u.clone_from(&self.base);
                    self.phase = Phase::Mistake;
                    return self.sparsest.iter().zip(sample.x()).any(|(u, x)| u != x);
                }
                self.join(sample)
            }
        }
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        let width = sample.width();
        let inside = |all: &[u32]| all.iter().all(|&i| (i as usize) < width);
        self.u.len() == width
            && self.base.len() == width
            && self.sparsest.len() == width
            && (self.gradient.len() == width || (self.gradient.is_empty() && self.phase == Phase::Mistake))
            && inside(&self.order)
            && inside(&self.candidates)
            && self.together > 0
            && self.together <= width.max(1)
            && self.tried <= self.order.len()
            && self.joined <= self.candidates.len()
    }
}
