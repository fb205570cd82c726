//! SuperDeepFool (Abdollahpoor et al. 2024): DeepFool to the first mistake, then the nearest point of the face there.

use crate::method::{Method, Seen, rise, rival};
use crate::sample::{Found, Sample};
use serde::{Deserialize, Serialize};
use tarrl_attacks::bits;

/// SuperDeepFool (Abdollahpoor et al. 2024) with moves of least norm within the box, in all norms.
///
/// Steps lead to the nearest face of the linearized decision region until a mistake is found; from there to the point of
/// the face that is nearest to the sample, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuperDeepFool {
    /// Evaluations at most.
    pub steps: usize,
    /// How often a mistake is followed by the nearest point of its face.
    pub rounds: usize,
    /// The classes that are considered until the first mistake, those of the largest scores.
    pub candidates: usize,
    /// How much farther a step goes than to the face, as a share of it.
    pub overshoot: f64,
}

/// Fifty steps, six rounds, ten candidates, two per cent.
impl Default for SuperDeepFool {
    fn default() -> Self {
        SuperDeepFool { steps: 50, rounds: 6, candidates: 10, overshoot: 0.02 }
    }
}

/// How much farther the nearest point of a face lies than on it, as a share of its distance.
const BEYOND: f64 = 1e-4;

/// SuperDeepFool of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SuperDeepFoolState {
    pub(crate) config: SuperDeepFool,
    step: usize,
    rounds: usize,
    /// The classes by the distance of their linearized faces from the sample, once it has been evaluated.
    pub(crate) order: Vec<u32>,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl SuperDeepFoolState {
    pub(crate) fn new(config: &SuperDeepFool, sample: &Sample) -> Self {
        SuperDeepFoolState { config: *config, step: 0, rounds: 0, order: Vec::new(), u: sample.x().to_vec() }
    }

    /// The classes whose faces are considered at scores `z`.
    fn classes(&self, z: &[f64], y: usize) -> Vec<usize> {
        if self.rounds > 0 || z[rival(z, y)] >= z[y] {
            return vec![rival(z, y)];
        }
        let mut classes: Vec<usize> = (0..z.len()).filter(|&k| k != y).collect();
        classes.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
        classes.truncate(self.config.candidates.max(1));
        classes
    }
}

/// The point nearest to the sample of the face of slope `gradient` of a gap of −`margin` at `u`, and a little beyond.
pub(crate) fn nearest_of_face(
    sample: &Sample,
    u: &[f32],
    gradient: &[f64],
    margin: f64,
    beyond: f64,
) -> Vec<f32> {
    let normal: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let moved = sample.displacement(u);
    let along: f64 = gradient.iter().zip(&moved).map(|(g, v)| g * v).sum();
    let gap = margin + along;
    let step = sample.to_plane(sample.x(), &normal, gap * (1.0 + beyond));
    sample.moved(sample.x(), &step, 1.0)
}

impl Method for SuperDeepFoolState {
    fn point(&self) -> &[f32] {
        &self.u
    }

    fn slopes(&self, z: &[f64], y: usize) -> Vec<Vec<f64>> {
        self.classes(z, y).into_iter().map(|k| rise(z, y, k)).collect()
    }

    fn advance(&mut self, sample: &Sample, _found: &Found, seen: &Seen<'_>) -> bool {
        let (config, y) = (self.config, sample.label);
        self.step += 1;
        if self.step > config.steps || (seen.mistake && self.rounds >= config.rounds) {
            return false;
        }
        let classes = self.classes(seen.z, y);
        if seen.mistake {
            self.rounds += 1;
            if seen.gradients[0].iter().all(|g| *g == 0.0) {
                return false;
            }
            self.u = nearest_of_face(sample, &self.u, &seen.gradients[0], seen.margin, BEYOND);
            return true;
        }
        let faces = classes.iter().zip(&seen.gradients).filter_map(|(&k, gradient)| {
            let normal: Vec<f64> = gradient.iter().map(|g| -g).collect();
            let gap = seen.z[y] - seen.z[k];
            let step = sample.to_plane(&self.u, &normal, gap);
            // A face out of reach is met at a corner, which does not close the gap.
            let closed: f64 = step.iter().zip(gradient).map(|(s, g)| s * g).sum();
            (closed > 0.0).then(|| {
                let length = sample.norm().length(step.iter().copied());
                (length * (gap / closed).max(1.0), k, step)
            })
        });
        let mut faces: Vec<(f64, usize, Vec<f64>)> = faces.collect();
        faces.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if self.order.is_empty() {
            self.order = faces.iter().map(|face| face.1 as u32).collect();
        }
        let Some((_, _, step)) = faces.first() else { return false };
        let next = sample.moved(&self.u, step, 1.0 + config.overshoot);
        let stays = next == self.u;
        self.u = next;
        !stays
    }

    fn fits(&self, sample: &Sample, classes: usize) -> bool {
        let width = sample.width();
        self.u.len() == width
            && self.step <= self.config.steps
            && self.rounds <= self.config.rounds
            && self.order.len() < classes
            && self.order.iter().all(|&k| (k as usize) < classes)
    }
}
