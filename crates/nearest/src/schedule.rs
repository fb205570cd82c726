//! Schedules and updates that several methods share: cosine decay, Adam, lengths.

use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, bits};
use tarrl_tensor::math;

/// From 1 at step 0 to 0 at step `steps`: half a cosine.
pub(crate) fn cosine(step: usize, steps: usize) -> f64 {
    0.5 * (1.0 + math::cos(std::f64::consts::PI * step as f64 / steps.max(1) as f64))
}

/// From `first` at step 0 to `last` at step `steps`, by [`cosine`].
pub(crate) fn between(first: f64, last: f64, step: usize, steps: usize) -> f64 {
    last + (first - last) * cosine(step, steps)
}

/// From `first` at step 0 to `last` at step `steps`, by equal factors; both are positive.
pub(crate) fn geometric(first: f64, last: f64, step: usize, steps: usize) -> f64 {
    first * math::exp(math::ln(last / first) * (step as f64 / steps.max(1) as f64))
}

/// From 1 at step 0 to a hundredth at step `steps`, geometrically.
pub(crate) fn to_a_hundredth(step: f64, steps: f64) -> f64 {
    math::exp(-math::ln(100.0) * (step / steps.max(1.0)))
}

/// The l2 length.
pub(crate) fn length(v: &[f64]) -> f64 {
    Norm::L2.length(v.iter().copied())
}

/// `v` divided by its length; zero stays.
pub(crate) fn unit(v: &[f64]) -> Vec<f64> {
    let largest = v.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        return v.to_vec();
    }
    // By the largest first, so that squares neither vanish nor overflow.
    let scaled: Vec<f64> = v.iter().map(|v| v / largest).collect();
    let length = length(&scaled);
    scaled.iter().map(|v| v / length).collect()
}

/// The moments of Adam (Kingma & Ba 2015), decay 0.9 and 0.999.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adam {
    #[serde(with = "bits")]
    first: Vec<f64>,
    #[serde(with = "bits")]
    second: Vec<f64>,
}

impl Adam {
    pub(crate) fn new(width: usize) -> Self {
        Adam { first: vec![0.0; width], second: vec![0.0; width] }
    }

    pub(crate) fn fits(&self, width: usize) -> bool {
        self.first.len() == width && self.second.len() == width
    }

    /// Takes in a gradient as the `count`-th, from 1: the mean, and the root of the mean square plus 1e-8.
    pub(crate) fn update(&mut self, gradient: &[f64], count: usize) -> (Vec<f64>, Vec<f64>) {
        let (beta, gamma) = (0.9, 0.999);
        for ((m, v), g) in self.first.iter_mut().zip(&mut self.second).zip(gradient) {
            *m = beta * *m + (1.0 - beta) * g;
            *v = gamma * *v + (1.0 - gamma) * g * g;
        }
        let (m_scale, v_scale) =
            (1.0 - math::powf(beta, count as f64), 1.0 - math::powf(gamma, count as f64));
        let mean = self.first.iter().map(|m| m / m_scale).collect();
        let size = self.second.iter().map(|v| (v / v_scale).sqrt() + 1e-8).collect();
        (mean, size)
    }
}
