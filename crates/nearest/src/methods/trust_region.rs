//! Least-norm steps in a trust region: the shortest displacement on the linearized face, near the current point.

use crate::method::{Method, Seen, rise, rival};
use crate::sample::{Found, Sample};
use crate::schedule::geometric;
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, bits};

/// Steps to the shortest displacement that the linearized margin allows among those near the current one, value by value;
/// l-infinity, l2 and l1.
///
/// In a model that is linear where it looks, one step is exact. The region shrinks from step to step, so that the point
/// settles at kinks too. It begins at the nearest mistake, and does nothing without one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrustRegion {
    /// Steps.
    pub steps: usize,
    /// How far a value may move in the first step and in the last, as shares of the largest move of the nearest mistake.
    pub region: (f64, f64),
    /// The share of the gradient before that stays in the next.
    pub momentum: f64,
    /// How far beyond the face a step goes, as a share of the clean margin.
    pub beyond: f64,
    /// Which class it aims at: the first, second, … most promising; 0 for whichever is nearest.
    pub target: usize,
}

/// Two hundred steps, from a half to a five-hundredth; half of each gradient stays.
impl Default for TrustRegion {
    fn default() -> Self {
        TrustRegion { steps: 200, region: (0.5, 0.002), momentum: 0.5, beyond: 1e-3, target: 0 }
    }
}

/// The steps of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrustRegionState {
    pub(crate) config: TrustRegion,
    #[serde(with = "bits")]
    scale: f64,
    /// The largest move of a value of the first mistake.
    #[serde(with = "bits")]
    largest: f64,
    step: usize,
    /// The class that it aims at, if there is one.
    target: Option<u32>,
    #[serde(with = "bits")]
    slope: Vec<f64>,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl TrustRegionState {
    /// `order`: the classes, the most promising first.
    pub(crate) fn new(
        config: &TrustRegion,
        sample: &Sample,
        found: &Found,
        scale: f64,
        order: &[u32],
    ) -> Self {
        let start = if found.is_any() { &found.point[..] } else { sample.x() };
        let largest = Norm::Linf.length(sample.displacement(start));
        let width = sample.width();
        let target = config.target.checked_sub(1).map(|number| order.get(number).copied());
        let begins = found.is_any() && target != Some(None);
        TrustRegionState {
            config: *config,
            scale,
            largest,
            step: if begins { 0 } else { config.steps },
            target: target.flatten(),
            slope: vec![0.0; width],
            u: start.to_vec(),
        }
    }
}

impl TrustRegionState {
    fn aim(&self, z: &[f64], y: usize) -> usize {
        let target = self.target.map(|target| target as usize);
        target.filter(|&k| k < z.len() && k != y).unwrap_or_else(|| rival(z, y))
    }
}

impl Method for TrustRegionState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        vec![rise(z, y, self.aim(z, y))]
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        let config = self.config;
        if self.step >= config.steps {
            return false;
        }
        let keep = if self.step == 0 { 0.0 } else { config.momentum };
        for (slope, g) in self.slope.iter_mut().zip(&seen.gradients[0]) {
            *slope = keep * *slope + (1.0 - keep) * g;
        }
        let moved = sample.displacement(&self.u);
        let region = self.largest * geometric(config.region.0, config.region.1, self.step, config.steps);
        let (lo, hi) = sample.ball.bounds();
        let ends: Vec<(f64, f64)> = moved
            .iter()
            .zip(sample.x())
            .map(|(&v, &x)| {
                let x = f64::from(x);
                ((f64::from(lo) - x).max(v - region), (f64::from(hi) - x).min(v + region))
            })
            .collect();
        let along: f64 = self.slope.iter().zip(&moved).map(|(w, v)| w * v).sum();
        let gap = seen.z[sample.label] - seen.z[self.aim(seen.z, sample.label)];
        let wanted = along + gap + config.beyond * self.scale;
        let next = shortest(sample.norm(), &self.slope, &ends, wanted, along);
        self.u = sample.moved(sample.x(), &next, 1.0);
        self.step += 1;
        true
    }

    fn fits(&self, sample: &Sample, classes: usize) -> bool {
        let width = sample.width();
        let known = self.target.is_none_or(|k| (k as usize) < classes);
        known && self.u.len() == width && self.slope.len() == width && self.step <= self.config.steps
    }
}

/// The shortest displacement with `⟨w, ·⟩ ≥ wanted` whose values lie between the `ends`; half of the way from `along` to the
/// most that these allow if that is less.
fn shortest(norm: Norm, w: &[f64], ends: &[(f64, f64)], wanted: f64, along: f64) -> Vec<f64> {
    let end = |i: usize| if w[i] > 0.0 { ends[i].1 } else { ends[i].0 };
    let nearest = |i: usize| 0f64.clamp(ends[i].0, ends[i].1.max(ends[i].0));
    let most: f64 = (0..w.len()).map(|i| w[i] * end(i)).sum();
    let wanted = wanted.min(along + 0.5 * (most - along).max(0.0));
    let sum = |v: &[f64]| w.iter().zip(v).map(|(w, v)| w * v).sum::<f64>();
    if norm == Norm::L1 {
        let mut v: Vec<f64> = (0..w.len()).map(nearest).collect();
        let mut order: Vec<usize> = (0..w.len()).collect();
        order.sort_by(|&a, &b| w[b].abs().total_cmp(&w[a].abs()).then(a.cmp(&b)));
        let mut reached = sum(&v);
        // Values of large slope move outwards, as far as needed.
        for i in order {
            if reached >= wanted || w[i] == 0.0 {
                break;
            }
            let gain = w[i] * (end(i) - v[i]);
            let share = if gain > 0.0 { ((wanted - reached) / gain).min(1.0) } else { 0.0 };
            v[i] += share * (end(i) - v[i]);
            reached += share * gain;
        }
        return v;
    }
    let at = |level: f64| -> Vec<f64> {
        let value = |i: usize| {
            let free = if norm == Norm::Linf { level * sign(w[i]) } else { level * w[i] };
            free.clamp(ends[i].0, ends[i].1.max(ends[i].0))
        };
        (0..w.len()).map(value).collect()
    };
    let square: f64 = w.iter().map(|w| w * w).sum();
    let mut high = match norm {
        Norm::Linf => ends.iter().fold(0.0f64, |m, (a, b)| m.max(a.abs()).max(b.abs())),
        _ if square > 0.0 => (wanted.abs() / square).max(f64::MIN_POSITIVE),
        _ => 0.0,
    };
    for _ in 0..60 {
        if norm == Norm::Linf || sum(&at(high)) >= wanted {
            break;
        }
        high *= 2.0;
    }
    let mut low = 0.0;
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if sum(&at(middle)) >= wanted { high = middle } else { low = middle }
    }
    at(high)
}

/// The sign, zero of zero.
fn sign(v: f64) -> f64 {
    if v == 0.0 { 0.0 } else { v.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against random displacements between the same ends: none that reaches as far is shorter.
    #[test]
    fn no_displacement_that_reaches_as_far_is_shorter() {
        let mut stream = tarrl_tensor::Key::new(4).stream();
        for _ in 0..300 {
            let w: Vec<f64> = (0..5).map(|_| stream.normal()).collect();
            let center: Vec<f64> = (0..5).map(|_| stream.uniform(-0.5, 0.5)).collect();
            let ends: Vec<(f64, f64)> = center.iter().map(|v| (v - 0.3, v + 0.3)).collect();
            let value = |v: &[f64]| w.iter().zip(v).map(|(w, v)| w * v).sum::<f64>();
            let along = value(&center);
            let wanted = along + stream.uniform(-0.2, 0.4) * w.iter().map(|w| w.abs()).sum::<f64>() * 0.3;
            for norm in [Norm::Linf, Norm::L2, Norm::L1] {
                let found = shortest(norm, &w, &ends, wanted, along);
                assert!(found.iter().zip(&ends).all(|(v, (a, b))| (a - 1e-12..=b + 1e-12).contains(v)));
                assert!(value(&found) >= wanted - 1e-9, "{norm} {} {wanted}", value(&found));
                let length = norm.length(found.iter().copied());
                for _ in 0..200 {
                    let other: Vec<f64> = found
                        .iter()
                        .zip(&ends)
                        .map(|(v, (a, b))| (v + 0.2 * stream.normal()).clamp(*a, *b))
                        .collect();
                    if value(&other) >= value(&found) {
                        assert!(
                            norm.length(other.iter().copied()) >= length - 1e-9,
                            "{norm} {found:?} {other:?}"
                        );
                    }
                }
            }
        }
    }
}
