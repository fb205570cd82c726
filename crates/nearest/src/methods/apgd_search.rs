//! A search over ε with targeted APGD: balls that shrink as long as a mistake is found in them.

use crate::method::{Method, Seen, rise};
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Apgd, ApgdState, Norm, SampleBall, bits};

/// A search over ε with APGD (Croce & Hein 2020, 2021) towards several classes, l-infinity, l2 and l1.
///
/// A ball begins at the nearest mistake brought into it, and is left at the first mistake in it. Without a mistake its
/// radius doubles; with one it is less than the distance by a share, which is halved where nothing is found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApgdSearch {
    /// The balls at most.
    pub searches: usize,
    /// Steps towards each class.
    pub steps: usize,
    /// The classes aimed at one after the other.
    pub targets: usize,
    /// The radius of the first ball if no mistake is known.
    pub initial_radius: f64,
    /// By which share of the distance the first ball is smaller if one is known.
    pub shrink: f64,
    /// The share at which the search ends.
    pub least_shrink: f64,
}

impl ApgdSearch {
    /// The usual first radius of a norm, and balls of twenty steps towards five classes.
    pub fn new(norm: Norm) -> Self {
        let initial_radius = match norm {
            Norm::Linf => 1.0 / 255.0,
            Norm::L2 => 0.25,
            Norm::L1 | Norm::L0 => 2.0,
        };
        ApgdSearch { searches: 40, steps: 20, targets: 5, initial_radius, shrink: 0.2, least_shrink: 0.005 }
    }
}

impl Default for ApgdSearch {
    fn default() -> Self {
        ApgdSearch::new(Norm::L2)
    }
}

/// The search of one sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ApgdSearchState {
    pub(crate) config: ApgdSearch,
    /// The classes aimed at.
    targets: Vec<u32>,
    #[serde(with = "bits")]
    radius: f64,
    #[serde(with = "bits")]
    shrink: f64,
    search: usize,
    target: usize,
    ascent: ApgdState,
}

impl PartialEq for ApgdSearchState {
    fn eq(&self, other: &Self) -> bool {
        self.search == other.search && self.target == other.target && self.point() == other.point()
    }
}

impl ApgdSearchState {
    /// `order`: the classes, the most promising first.
    pub(crate) fn new(config: &ApgdSearch, sample: &Sample, found: &Found, order: &[u32]) -> Self {
        let count = config.targets.clamp(1, order.len().max(1));
        let targets: Vec<u32> = order.iter().copied().take(count).collect();
        let radius = if found.is_any() {
            found.distance * (1.0 - config.shrink)
        } else {
            config.initial_radius.min(sample.reach)
        };
        let ascent = ascent(config, sample, found, radius, (0, 0));
        ApgdSearchState {
            config: *config,
            targets,
            radius,
            shrink: config.shrink,
            search: 0,
            target: 0,
            ascent,
        }
    }

    fn ball(&self, sample: &Sample) -> SampleBall {
        SampleBall::new(&sample.threat, self.radius, sample.x())
    }

    /// The next ball.
    fn next_ball(&mut self, sample: &Sample, found: &Found) -> bool {
        self.search += 1;
        self.target = 0;
        let over = found.is_any() && self.shrink < self.config.least_shrink;
        if self.search >= self.config.searches || over || found.distance == 0.0 {
            return false;
        }
        self.radius = if found.is_any() {
            found.distance * (1.0 - self.shrink)
        } else {
            (2.0 * self.radius).min(sample.reach)
        };
        self.ascent = ascent(&self.config, sample, found, self.radius, (self.search, 0));
        true
    }
}

/// An ascent from the nearest mistake brought into the ball towards the first class, from a random point towards others.
fn ascent(
    config: &ApgdSearch,
    sample: &Sample,
    found: &Found,
    radius: f64,
    (search, target): (usize, usize),
) -> ApgdState {
    let apgd = Apgd { steps: config.steps, ..Apgd::default() };
    let ball = SampleBall::new(&sample.threat, radius, sample.x());
    if target == 0 && found.is_any() {
        let mut start = found.point.clone();
        sample.project(&mut start, radius);
        ball.project_within(&mut start, radius);
        return ApgdState::from_point(&ball, &apgd, start);
    }
    let mut stream = sample.key.fold("apgd-search").fold(search).fold(target).stream();
    let mut draw = || if sample.norm() == Norm::Linf { stream.uniform(-1.0, 1.0) } else { stream.normal() };
    let noise: Vec<f64> = (0..sample.width()).map(|_| draw()).collect();
    ApgdState::new(&ball, &apgd, &noise)
}

impl Method for ApgdSearchState {
    fn point(&self) -> &[f32] {
        self.ascent.point()
    }

    fn wants_gradients(&self) -> bool {
        self.ascent.wants_gradient()
    }

    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        let Some(&target) = self.targets.get(self.target).filter(|_| self.wants_gradients()) else {
            return Vec::new();
        };
        vec![rise(z, y, (target as usize).min(z.len() - 1))]
    }

    fn advance(&mut self, sample: &Sample, found: &Found, seen: &Seen<'_>) -> bool {
        let Some(&target) = self.targets.get(self.target) else { return false };
        if seen.mistake && seen.distance <= self.radius * (1.0 + 1e-6) {
            return self.next_ball(sample, found);
        }
        let value = seen.z[(target as usize).min(seen.z.len() - 1)] - seen.z[sample.label];
        let gradient: Vec<f32> =
            seen.gradients.first().map_or_else(Vec::new, |g| g.iter().map(|&g| g as f32).collect());
        let ball = self.ball(sample);
        if self.ascent.advance(&ball, value, &gradient) {
            return true;
        }
        self.target += 1;
        if self.target < self.targets.len() {
            self.ascent = ascent(&self.config, sample, found, self.radius, (self.search, self.target));
            return true;
        }
        if found.is_any() {
            self.shrink *= 0.5;
        } else if self.radius >= sample.reach {
            return false;
        }
        self.next_ball(sample, found)
    }

    fn fits(&self, sample: &Sample, classes: usize) -> bool {
        if !(0.0..=sample.reach).contains(&self.radius) {
            return false;
        }
        let ball = self.ball(sample);
        let apgd = Apgd { steps: self.config.steps, ..Apgd::default() };
        let start = ApgdState::from_point(&ball, &apgd, sample.x().to_vec());
        self.ascent.can_follow(&start, &ball)
            && self.target < self.targets.len()
            && self.search < self.config.searches.max(1)
            && (0.0..=1.0).contains(&self.shrink)
            && self.targets.iter().all(|&k| (k as usize) < classes)
    }
}
