//! One sample under attack: its center, its box, its label, and what was found for it so far.

use serde::{Deserialize, Serialize};
use tarrl_attacks::{Hyperplane, Norm, SampleBall, Threat, bits, nearest_on_hyperplane};
use tarrl_tensor::Key;

/// What of a sample does not change.
pub(crate) struct Sample {
    pub(crate) threat: Threat,
    pub(crate) ball: SampleBall,
    pub(crate) label: usize,
    pub(crate) key: Key,
    /// The largest distance that a point of the box has from the center.
    pub(crate) reach: f64,
}

impl Sample {
    pub(crate) fn new(threat: &Threat, radius: f64, x: &[f32], label: u32, key: Key) -> Self {
        let ball = SampleBall::new(threat, radius, x);
        let (lo, hi) = ball.bounds();
        let farthest = |&x: &f32| (f64::from(x) - f64::from(lo)).max(f64::from(hi) - f64::from(x));
        let reach = threat.norm.length(x.iter().map(farthest));
        Sample { threat: *threat, ball, label: label as usize, key, reach }
    }

    pub(crate) fn norm(&self) -> Norm {
        self.threat.norm
    }

    pub(crate) fn x(&self) -> &[f32] {
        self.ball.center()
    }

    pub(crate) fn width(&self) -> usize {
        self.x().len()
    }

    /// Brings `u` into the box and, as near as its norm allows, into the ball of that radius.
    pub(crate) fn project(&self, u: &mut [f32], radius: f64) {
        if radius < self.reach && self.norm() == Norm::Linf {
            for (u, &x) in u.iter_mut().zip(self.x()) {
                let x = f64::from(x);
                *u = f64::from(*u).clamp(x - radius, x + radius) as f32;
            }
        } else if radius < self.reach {
            self.ball.project_within(u, radius);
        }
        self.ball.clamp(u);
    }

    /// `from + size · direction`, in the box.
    pub(crate) fn moved(&self, from: &[f32], direction: &[f64], size: f64) -> Vec<f32> {
        let sums = from.iter().zip(direction).map(|(&u, d)| (f64::from(u) + size * d) as f32);
        let mut u: Vec<f32> = sums.collect();
        self.ball.clamp(&mut u);
        u
    }

    /// The least move of the norm from `from` within the box to the hyperplane on which a function of slope `normal` that
    /// is `gap` at `from` vanishes.
    pub(crate) fn to_plane(&self, from: &[f32], normal: &[f64], gap: f64) -> Vec<f64> {
        let (lo, hi) = self.ball.bounds();
        let bounds = (lo.into(), hi.into());
        nearest_on_hyperplane(self.norm(), from, &Hyperplane { normal, gap, bounds, floor: 0.0 })
    }

    /// The displacement of `u`.
    pub(crate) fn displacement(&self, u: &[f32]) -> Vec<f64> {
        self.ball.displacement(u).collect()
    }
}

/// The nearest mistake found of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Empty if there is none.
    #[serde(with = "bits")]
    pub(crate) point: Vec<f32>,
    /// Its distance; infinite if there is none.
    #[serde(with = "bits")]
    pub(crate) distance: f64,
    /// z_y − max_{k≠y} z_k there.
    #[serde(with = "bits")]
    pub(crate) margin: f64,
    /// The method that found it.
    pub(crate) by: String,
    /// The passes, forward and backward, after which the first mistake was seen.
    pub(crate) first: Option<u32>,
}

impl Found {
    pub(crate) const fn nothing() -> Self {
        Found {
            point: Vec::new(),
            distance: f64::INFINITY,
            margin: f64::INFINITY,
            by: String::new(),
            first: None,
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.distance.is_finite()
    }

    /// Enters a mistake.
    pub(crate) fn enter(&mut self, point: &[f32], distance: f64, margin: f64, by: &str, passes: u32) {
        self.first.get_or_insert(passes);
        if distance < self.distance {
            self.point.clear();
            self.point.extend_from_slice(point);
            (self.distance, self.margin) = (distance, margin);
            by.clone_into(&mut self.by);
        }
    }
}
