//! ALMA (Rony et al. 2021): an augmented Lagrangian of the distance and the margin, with a penalty that adapts.

use crate::method::{Method, Seen};
use crate::sample::{Found, Sample};
use crate::schedule::{length, to_a_hundredth};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, bits};

/// How far beyond the face a point has to be to count as a mistake, in clean margins.
const BEYOND: f64 = 1e-4;
/// The range of the multiplier.
const MULTIPLIER: (f64, f64) = (1e-6, 1e12);
/// The decay of the mean square, of the momentum and of the multiplier.
const DECAY: f64 = 0.9;

/// ALMA (Rony et al. 2021), l2 and l1.
///
/// The margin is divided by that of the clean sample, which exists for two classes too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alma {
    /// Steps.
    pub steps: usize,
    /// The distance that the first step goes, in the norm.
    pub first_distance: f64,
    /// Steps between two looks at the penalty.
    pub check: usize,
    /// By which the penalty grows where the margin has not fallen by a twentieth.
    pub growth: f64,
}

impl Alma {
    /// The published setting of a norm: first steps of 0.1, in l1 of 0.5.
    pub fn new(norm: Norm, steps: usize) -> Self {
        let first_distance = if norm == Norm::L1 { 0.5 } else { 0.1 };
        Alma { steps, first_distance, check: 10, growth: 1.2 }
    }
}

impl Default for Alma {
    fn default() -> Self {
        Alma::new(Norm::L2, 1000)
    }
}

/// ALMA of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AlmaState {
    pub(crate) config: Alma,
    #[serde(with = "bits")]
    scale: f64,
    #[serde(with = "bits")]
    rate: f64,
    #[serde(with = "bits")]
    multiplier: f64,
    #[serde(with = "bits")]
    penalty: f64,
    #[serde(with = "bits")]
    checked: f64,
    /// The step of the first mistake.
    first: Option<usize>,
    step: usize,
    #[serde(with = "bits")]
    square: Vec<f64>,
    #[serde(with = "bits")]
    velocity: Vec<f64>,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl AlmaState {
    /// From the nearest mistake if there is one.
    pub(crate) fn new(config: &Alma, sample: &Sample, found: &Found, scale: f64) -> Self {
        let start = if found.is_any() { &found.point[..] } else { sample.x() };
        let width = sample.width();
        AlmaState {
            config: *config,
            scale,
            rate: 0.0,
            multiplier: 1.0,
            penalty: 1.0,
            checked: f64::INFINITY,
            first: None,
            step: 0,
            square: vec![1.0; width],
            velocity: vec![0.0; width],
            u: start.to_vec(),
        }
    }

    /// The slope of the penalty at a margin.
    fn slope(&self, y: f64) -> f64 {
        let (mu, rho) = (self.multiplier, self.penalty);
        if y >= 0.0 {
            mu + 2.0 * mu * rho * y + 0.5 * (rho * y).powi(2)
        } else {
            mu / (1.0 - rho * y).powi(2)
        }
    }

    /// The rate at which the first step goes as far as it should: doubled, then halved between.
    fn first_rate(&self, sample: &Sample, step: &[f64]) -> f64 {
        let far = |rate: f64| {
            let u = sample.moved(&self.u, step, -rate);
            sample.norm().length(u.iter().zip(&self.u).map(|(a, b)| f64::from(*a) - f64::from(*b)))
        };
        let wanted = self.config.first_distance.min(0.5 * sample.reach);
        let (mut lo, mut hi) = (0.0, 1e-6);
        for _ in 0..100 {
            if far(hi) >= wanted {
                break;
            }
            (lo, hi) = (hi, 2.0 * hi);
        }
        for _ in 0..20 {
            let middle = 0.5 * (lo + hi);
            if far(middle) >= wanted { hi = middle } else { lo = middle }
        }
        hi
    }
}

impl Method for AlmaState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        let config = self.config;
        if self.step >= config.steps {
            return false;
        }
        let y = seen.margin / self.scale + BEYOND;
        if y < 0.0 {
            self.first.get_or_insert(self.step);
        }
        if (self.step + 1).is_multiple_of(config.check.max(1)) {
            if self.first.is_none() && y >= 0.95 * self.checked {
                self.penalty *= config.growth;
            }
            self.checked = y;
        }
        if self.step > 0 {
            let next = DECAY * self.multiplier + (1.0 - DECAY) * self.slope(y);
            self.multiplier = next.clamp(MULTIPLIER.0, MULTIPLIER.1);
        }
        let pull = self.slope(y) / self.scale;
        // Of the margin, downwards along the gradient of the rival's gap; the distance joins after the first step.
        let mut gradient: Vec<f64> = seen.gradients[0].iter().map(|g| -pull * g).collect();
        if self.step > 0 {
            let moved = sample.displacement(&self.u);
            let size = length(&moved);
            for (g, v) in gradient.iter_mut().zip(&moved) {
                *g += match sample.norm() {
                    Norm::L1 if *v == 0.0 => 0.0,
                    Norm::L1 => v.signum(),
                    _ if size == 0.0 => 0.0,
                    _ => v / size,
                };
            }
        }
        for ((s, b), g) in self.square.iter_mut().zip(&mut self.velocity).zip(&gradient) {
            *s = DECAY * *s + (1.0 - DECAY) * g * g;
            *b = DECAY * *b + g / (s.sqrt() + 1e-8);
        }
        if self.step == 0 {
            self.rate = self.first_rate(sample, &self.velocity);
        }
        let since = self.first.unwrap_or(self.step);
        let decay = to_a_hundredth((self.step - since) as f64, (config.steps - since) as f64);
        self.u = sample.moved(&self.u, &self.velocity, -self.rate * decay);
        self.step += 1;
        true
    }

    fn fits(&self, sample: &Sample, _classes: usize) -> bool {
        let width = sample.width();
        self.u.len() == width
            && self.square.len() == width
            && self.velocity.len() == width
            && self.step <= self.config.steps
            && self.first.is_none_or(|first| first <= self.step)
    }
}
