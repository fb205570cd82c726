//! DeepFool: steps to the nearest face of the linearized decision region.

use crate::ball::{Ball, row_index};
use crate::driver::AttackDriver;
use crate::label::ranks;
use crate::minimal::{Classifier, Glimpse, MinimalAdversarial, is_mistake, same_config};
use crate::outcome::{Outcome, with_rows};
use crate::problem::Limits;
use crate::state::{SearchState, StateError, Stored};
use crate::steepest::{dense, per_sample};
use crate::threat::Norm;
use serde::{Deserialize, Serialize};
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
        // Nothing is random: any keys do.
        classifier.nearest(ball, &vec![Key::new(0); ball.len()], limits, |target| {
            let mut run = DeepFoolRun::new(*self, target);
            while run.step() {}
            run.finish()
        })
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

/// DeepFool in progress: `while run.step() {}` and then [`finish`](DeepFoolRun::finish), with a
/// [`state`](DeepFoolRun::state) to write down wherever it may be interrupted. See [`Classifier::nearest`].
pub struct DeepFoolRun<'a> {
    config: DeepFool,
    target: &'a MinimalAdversarial<'a>,
    search: AttackDriver<'a>,
    /// The steps added up, of the samples that take part.
    sum: Tensor,
    /// `(n)`: the classes that are looked at, once the inputs have been.
    classes: Vec<Vec<u32>>,
    /// Looks so far.
    step: usize,
}

/// A [`DeepFoolRun`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeepFoolState {
    config: DeepFool,
    search: SearchState,
    sum: Stored,
    classes: Vec<Vec<u32>>,
    step: usize,
}

impl<'a> DeepFoolRun<'a> {
    /// Nothing done yet.
    ///
    /// # Panics
    /// If the norm is l1 or l0.
    #[track_caller]
    pub fn new(config: DeepFool, target: &'a MinimalAdversarial<'a>) -> Self {
        let norm = target.problem.ball.threat().norm;
        assert!(matches!(norm, Norm::L2 | Norm::Linf), "DeepFool: l2 and linf alone, not {norm}");
        let mut search = AttackDriver::new(&target.problem);
        search.stage().attack = "deepfool".to_owned();
        let sum = search.ball().center().zeros_like();
        DeepFoolRun { config, target, search, sum, classes: vec![Vec::new(); target.problem.len()], step: 0 }
    }

    /// One look and, of those who go on, one step. `false` if there is nothing left to do.
    #[track_caller]
    pub fn step(&mut self) -> bool {
        if self.search.is_done() || self.step > self.config.steps {
            return false;
        }
        self.look_and_move();
        self.step += 1;
        true
    }

    /// What was found.
    pub fn finish(self) -> Outcome {
        self.search.finish()
    }

    /// All of it. Whoever goes on from it comes to the same bits.
    pub fn state(&self) -> DeepFoolState {
        DeepFoolState {
            config: self.config,
            search: self.search.state(),
            sum: Stored::of(&self.sum),
            classes: self.classes.clone(),
            step: self.step,
        }
    }

    /// The run that a state was taken of.
    ///
    /// # Errors
    /// If it was taken of another problem or configuration.
    ///
    /// # Panics
    /// As [`new`](DeepFoolRun::new).
    #[track_caller]
    pub fn resume(
        config: DeepFool,
        target: &'a MinimalAdversarial<'a>,
        state: &DeepFoolState,
    ) -> Result<Self, StateError> {
        same_config(&state.config, &config)?;
        let mut run = DeepFoolRun::new(config, target);
        run.search = AttackDriver::resume(&target.problem, &state.search)?;
        run.sum = state.sum.on(target.problem.ball.center().device());
        run.classes.clone_from(&state.classes);
        run.step = state.step;
        Ok(run)
    }

    fn look_and_move(&mut self) {
        let (config, step, search) = (self.config, self.step, &mut self.search);
        let norm = search.ball().threat().norm;
        search.stage().step = step as u32;
        let moved = search.ball().center() + &self.sum.mul_scalar(1.0 + config.overshoot);
        let u = search.ball().into_box(&moved);
        let rows = search.rows().to_vec();
        let seen =
            search.evaluate_open(&u, if step < config.steps { config.candidates as u32 + 1 } else { 0 });
        let Some(glimpse) = self.target.last.take() else { return };
        let labels = self.target.classifier.labels;
        if step == 0 {
            let own: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
            let chosen = config.choose(&glimpse.logits, &own);
            rows.iter().zip(chosen).for_each(|(&row, c)| self.classes[row] = c);
        }
        // Whoever is not mistaken yet goes on, if there is a gradient to follow.
        let stay: Vec<usize> = (0..seen.value.len()).filter(|&i| !is_mistake(seen.value[i])).collect();
        let looked = stay.iter().map(|&i| seen.left.as_ref().map_or(i, |left| left[i])).collect();
        search.retain(stay);
        if step == config.steps || search.is_done() {
            return;
        }
        let classes = Candidates { rows: &rows, labels, classes: &self.classes };
        let faces = nearest_faces(norm, &glimpse, &classes, looked);
        for (&row, ratio) in search.rows().to_vec().iter().zip(&faces.ratio) {
            search.count(row, 0, classes.count());
            search.flags(row).zero_gradient |= ratio.is_infinite();
        }
        let going: Vec<usize> = (0..faces.ratio.len()).filter(|&i| faces.ratio[i].is_finite()).collect();
        let length: Vec<f64> = going.iter().map(|&i| faces.ratio[i] + BEYOND).collect();
        let from: Vec<usize> = going.iter().map(|&i| faces.looked[i]).collect();
        let sum = &self.sum;
        let normal = faces.normal.gather(0, &row_index(sum, &going));
        search.retain(going);
        if search.is_done() {
            return;
        }
        self.sum =
            &sum.gather(0, &row_index(sum, &from)) + &(&dense(norm, &normal) * &per_sample(sum, &length));
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

/// Of some of the samples looked at, the face that is nearest as the linearized model sees it.
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
