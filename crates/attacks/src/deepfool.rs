//! DeepFool: steps to the nearest face of the linearised decision region.

use crate::ball::{Ball, row_index};
use crate::label::ranks;
use crate::minimal::{Classifier, Glimpse, is_mistake, nearest_mistake};
use crate::outcome::{Outcome, with_rows};
use crate::problem::{Limits, Problem};
use crate::search::Search;
use crate::steepest::{dense, per_sample};
use crate::threat::Norm;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tarrl_tensor::{Key, Tensor, grad};

/// The way beyond a face, so that it is crossed.
const BEYOND: f64 = 1e-4;

/// DeepFool (Moosavi-Dezfooli et al. 2016), l2 and l-infinity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeepFool {
    /// The most steps.
    pub steps: usize,
    /// The classes that are looked at beside the label, those of the largest clean logits.
    pub candidates: usize,
    /// How much farther than the accumulated steps a point is put, as a share of them.
    pub overshoot: f64,
}

/// Fifty steps, ten candidates, two per cent.
impl Default for DeepFool {
    fn default() -> Self {
        DeepFool { steps: 50, candidates: 10, overshoot: 0.02 }
    }
}

impl DeepFool {
    /// The nearest mistakes around the centers of `ball`; see [`Outcome::distances`]. A mistake within the
    /// ball is a success, and there alone `early_stop` ends the search, which ends at the first
    /// mistake anyway.
    ///
    /// Each step costs one forward pass and one backward pass for each candidate. A step whose
    /// gradients all vanish ends the search for its sample, flagged.
    ///
    /// # Panics
    /// If the norm is l1 or l0, there are not as many labels as samples, or `k < 2`.
    #[track_caller]
    pub fn run(&self, classifier: Classifier<'_>, ball: &Ball, limits: Limits) -> Outcome {
        let norm = ball.threat().norm;
        assert!(matches!(norm, Norm::L2 | Norm::Linf), "DeepFool: l2 and linf alone, not {norm}");
        let (n, labels) = (ball.len(), classifier.labels.len());
        assert_eq!(labels, n, "DeepFool: {labels} labels for {n} samples");
        let last = RefCell::new(None);
        let evaluate = nearest_mistake(classifier, ball, &last);
        let problem = Problem::new(ball.clone(), &evaluate, &vec![Key::new(0); n], limits);
        let mut search = Search::new(&problem);
        search.stage().attack = "deepfool".to_owned();
        if search.is_done() {
            return search.finish();
        }
        let mut sum = search.ball().center().zeros_like();
        let mut classes: Vec<Vec<u32>> = vec![Vec::new(); n];
        for step in 0..=self.steps {
            search.stage().step = step as u32;
            let u = search.ball().into_box(&(search.ball().center() + &sum.mul_scalar(1.0 + self.overshoot)));
            let rows = search.rows().to_vec();
            let seen = search.look_open(&u, if step < self.steps { self.candidates as u32 + 1 } else { 0 });
            let Some(glimpse) = last.take() else { break };
            if step == 0 {
                let own: Vec<u32> = rows.iter().map(|&row| classifier.labels[row]).collect();
                rows.iter().zip(self.choose(&glimpse.logits, &own)).for_each(|(&row, c)| classes[row] = c);
            }
            // Whoever is not mistaken yet goes on, if there is a gradient to follow.
            let stay: Vec<usize> = (0..seen.value.len()).filter(|&i| !is_mistake(seen.value[i])).collect();
            let looked = stay.iter().map(|&i| seen.left.as_ref().map_or(i, |left| left[i])).collect();
            search.retain(stay);
            if step == self.steps || search.is_done() {
                break;
            }
            let classes = Candidates { rows: &rows, labels: classifier.labels, classes: &classes };
            let faces = nearest_faces(norm, &glimpse, &classes, looked);
            for (&row, ratio) in search.rows().to_vec().iter().zip(&faces.ratio) {
                search.count(row, 0, classes.count());
                search.flags(row).zero_gradient |= ratio.is_infinite();
            }
            let going: Vec<usize> = (0..faces.ratio.len()).filter(|&i| faces.ratio[i].is_finite()).collect();
            let length: Vec<f64> = going.iter().map(|&i| faces.ratio[i] + BEYOND).collect();
            let from: Vec<usize> = going.iter().map(|&i| faces.looked[i]).collect();
            let normal = faces.normal.gather(0, &row_index(&sum, &going));
            search.retain(going);
            if search.is_done() {
                break;
            }
            sum = &sum.gather(0, &row_index(&sum, &from))
                + &(&dense(norm, &normal) * &per_sample(&sum, &length));
        }
        search.finish()
    }

    /// The classes of the largest logits of each row, but the label.
    fn choose(&self, logits: &Tensor, labels: &[u32]) -> Vec<Vec<u32>> {
        let k = logits.shape()[1];
        let mut all = ranks(logits, k);
        for (order, y) in all.iter_mut().zip(labels) {
            order.retain(|class| class != y);
            order.truncate(self.candidates.max(1));
        }
        all
    }
}

/// The classes whose faces are looked at, of the samples `rows` that were looked at.
struct Candidates<'a> {
    rows: &'a [usize],
    labels: &'a [u32],
    classes: &'a [Vec<u32>],
}

impl Candidates<'_> {
    fn count(&self) -> u32 {
        self.rows.first().map_or(0, |&row| self.classes[row].len()) as u32
    }

    /// `(m)`: the gap between the logit of each sample's candidate and that of its label.
    fn gap(&self, logits: &Tensor, candidate: u32) -> Tensor {
        let pick = |class: &dyn Fn(usize) -> u32| {
            logits.pick_columns(&self.rows.iter().map(|&row| class(row) as usize).collect::<Vec<_>>())
        };
        &pick(&|row| self.classes[row][candidate as usize]) - &pick(&|row| self.labels[row])
    }
}

/// Of some of the samples looked at, the face that is nearest as the linearised model sees it.
struct Faces {
    /// Their positions among the points looked at.
    looked: Vec<usize>,
    /// The distance of the face; infinite if no gradient points anywhere.
    ratio: Vec<f64>,
    /// The gradient across it.
    normal: Tensor,
}

fn nearest_faces(norm: Norm, glimpse: &Glimpse, of: &Candidates<'_>, looked: Vec<usize>) -> Faces {
    let index = row_index(&glimpse.point, &looked);
    let mut ratio = vec![f64::INFINITY; looked.len()];
    let mut normal = glimpse.point.detach().gather(0, &index).zeros_like();
    for candidate in 0..of.count() {
        let gap = of.gap(&glimpse.logits, candidate);
        let gradient = grad(&gap.sum_all(), &[&glimpse.point]).remove(0).gather(0, &index);
        let lengths = dual_lengths(norm, &gradient);
        let gaps = gap.array().to_f64();
        let mut nearer = Vec::new();
        for (i, &position) in looked.iter().enumerate() {
            let distance = gaps[position].abs() / lengths[i];
            // Not where the gradient is zero or no number.
            if lengths[i] > 0.0 && distance < ratio[i] {
                ratio[i] = distance;
                nearer.push((i, i));
            }
        }
        normal = with_rows(&normal, &gradient, &nearer);
    }
    Faces { looked, ratio, normal }
}

fn dual_lengths(norm: Norm, gradient: &Tensor) -> Vec<f64> {
    let shape = *gradient.shape();
    let rows = gradient.reshape([shape[0], shape[1..].iter().product()]);
    let lengths = if norm == Norm::Linf { rows.abs().sum(1) } else { rows.norm(1) };
    lengths.array().to_f64()
}
