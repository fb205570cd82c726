//! DeepFool (Moosavi-Dezfooli et al. 2016): steps to the nearest face of the linearized decision region.

use crate::classifier::losses::ranks;
use crate::driver::{
    AttackDriver, AttackRun, Limits, Outcome, Problem, StateError, StepRule, Stored, demand,
};
use crate::minimal_norm::minimal_adversarial::{Classifier, LastEvaluation, MinimalAdversarial, is_mistake};
use crate::threat::rows::{per_sample, row_index, with_rows};
use crate::threat::steepest_ascent::dense;
use crate::threat::{Ball, Norm};
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
    /// The classes that are considered beside the label, those of the largest clean logits.
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
    /// Each step costs one forward pass and one backward pass for each candidate. Coordinates at a face of the box
    /// that a step would leave do not count. A step whose gradients all vanish ends the search for its sample, flagged.
    ///
    /// # Panics
    /// If the norm is l1 or l0, there are not as many labels as samples, or `k < 2`.
    #[track_caller]
    pub fn run(&self, classifier: Classifier<'_>, ball: &Ball, limits: Limits) -> Outcome {
        // Nothing is random: any keys do.
        classifier.nearest(ball, &vec![Key::new(0); ball.len()], limits, |target| {
            DeepFoolRun::new(*self, target).run()
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

/// DeepFool in progress, with resume. See [`Classifier::nearest`].
pub type DeepFoolRun<'a> = AttackRun<'a, DeepFoolRule<'a>>;

/// The step rule of DeepFool.
pub struct DeepFoolRule<'a> {
    config: DeepFool,
    target: &'a MinimalAdversarial<'a>,
    /// The steps added up, of the active samples; absent before the first.
    sum: Option<Tensor>,
    /// `(n)`: the classes whose faces are considered, once the inputs have been evaluated.
    classes: Vec<Vec<u32>>,
    /// Evaluations so far.
    step: usize,
}

/// What [`DeepFoolRule`] remembers, stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeepFoolRuleState {
    sum: Option<Stored>,
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
        let classes = vec![Vec::new(); target.problem.len()];
        AttackRun::of(DeepFoolRule { config, target, sum: None, classes, step: 0 })
    }
}

impl<'a> StepRule<'a> for DeepFoolRule<'a> {
    type Config = DeepFool;
    type State = DeepFoolRuleState;
    const NAME: &'static str = "deepfool";

    fn problem(&self) -> &'a Problem<'a> {
        &self.target.problem
    }

    fn config(&self) -> &DeepFool {
        &self.config
    }

    fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool {
        if driver.is_done() || self.step > self.config.steps {
            return false;
        }
        self.evaluate_and_move(driver);
        self.step += 1;
        true
    }

    fn state(&self) -> DeepFoolRuleState {
        let sum = self.sum.as_ref().map(Stored::of);
        DeepFoolRuleState { sum, classes: self.classes.clone(), step: self.step }
    }

    fn restore(&mut self, state: &DeepFoolRuleState, driver: &AttackDriver<'a>) -> Result<(), StateError> {
        let (n, active) = (self.target.problem.len(), driver.active());
        demand(
            state.step <= self.config.steps + 1 && state.classes.len() == n,
            "the steps or samples are not as many as there are",
        )?;
        if state.step > 0 {
            let count = active.first().map_or(1, |&row| state.classes[row].len());
            demand(
                count > 0 && active.iter().all(|&row| state.classes[row].len() == count),
                "the samples have not as many classes to move to",
            )?;
        }
        // None is left of a run that is over.
        let goes_on = !active.is_empty() && state.step <= self.config.steps;
        self.sum = match state.sum.as_ref().filter(|_| goes_on) {
            None => None,
            Some(sum) => Some(sum.restore(driver.ball().center(), active.len())?),
        };
        self.classes.clone_from(&state.classes);
        self.step = state.step;
        Ok(())
    }
}

impl DeepFoolRule<'_> {
    #[track_caller]
    fn evaluate_and_move(&mut self, driver: &mut AttackDriver<'_>) {
        let (config, step) = (self.config, self.step);
        let norm = driver.ball().threat().norm;
        driver.stage().attack = if step == 0 { "clean" } else { Self::NAME }.to_owned();
        driver.stage().step = step as u32;
        let sum = self.sum.clone().unwrap_or_else(|| driver.ball().center().zeros_like());
        let moved = driver.ball().center() + &sum.mul_scalar(1.0 + config.overshoot);
        let u = driver.ball().into_box(&moved);
        let rows = driver.active().to_vec();
        let seen =
            driver.evaluate_tracked(&u, if step < config.steps { config.candidates as u32 + 1 } else { 0 });
        let Some(last) = self.target.last.take() else { return };
        let labels = self.target.classifier.labels;
        if step == 0 {
            let own: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
            let chosen = config.choose(&last.logits, &own);
            rows.iter().zip(chosen).for_each(|(&row, c)| self.classes[row] = c);
        }
        // Samples that are not misclassified yet go on, if there is a gradient to follow.
        let stay: Vec<usize> = (0..seen.value.len()).filter(|&i| !is_mistake(seen.value[i])).collect();
        let evaluated = stay.iter().map(|&i| seen.kept.as_ref().map_or(i, |kept| kept[i])).collect();
        driver.retain(stay);
        if step == config.steps || driver.is_done() {
            return;
        }
        let classes = Candidates { rows: &rows, labels, classes: &self.classes };
        let faces = nearest_faces(driver.ball(), &last, &classes, evaluated);
        for (&row, ratio) in driver.active().to_vec().iter().zip(&faces.ratio) {
            driver.count(row, 0, classes.count());
            driver.flags(row).zero_gradient |= ratio.is_infinite();
        }
        let going: Vec<usize> = (0..faces.ratio.len()).filter(|&i| faces.ratio[i].is_finite()).collect();
        let length: Vec<f64> = going.iter().map(|&i| faces.ratio[i] + BEYOND).collect();
        let from: Vec<usize> = going.iter().map(|&i| faces.evaluated[i]).collect();
        let normal = faces.normal.gather(0, &row_index(&sum, &going));
        driver.retain(going);
        if driver.is_done() {
            return;
        }
        let step = &dense(norm, &normal) * &per_sample(&sum, &length);
        self.sum = Some(&sum.gather(0, &row_index(&sum, &from)) + &step);
    }
}

/// The classes whose faces are considered, of the samples `rows` that were evaluated.
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
        // A class beyond the logits may stand in a state of another model.
        let last = logits.shape()[1] - 1;
        let pick = |class: &dyn Fn(usize) -> u32| {
            let columns = self.rows.iter().map(|&row| (class(row) as usize).min(last));
            logits.pick_columns(&columns.collect::<Vec<_>>())
        };
        &pick(&|row| self.classes[row][candidate as usize]) - &pick(&|row| self.labels[row])
    }
}

/// Of some of the samples evaluated, the face that is nearest as the linearized model sees it.
struct Faces {
    /// Their positions among the points evaluated.
    evaluated: Vec<usize>,
    /// The distance of the face; infinite if no gradient points anywhere.
    ratio: Vec<f64>,
    /// The gradient across it.
    normal: Tensor,
}

/// `ball` is that of the samples at the positions `evaluated`.
fn nearest_faces(ball: &Ball, last: &LastEvaluation, of: &Candidates<'_>, evaluated: Vec<usize>) -> Faces {
    let index = row_index(&last.point, &evaluated);
    let point = last.point.detach().gather(0, &index);
    let mut ratio = vec![f64::INFINITY; evaluated.len()];
    let mut normal = point.zeros_like();
    for candidate in 0..of.count() {
        let gap = of.gap(&last.logits, candidate);
        let gradient = grad(&gap.sum_all(), &[&last.point]).remove(0).gather(0, &index);
        let gradient = ball.unblocked(&point, &gradient);
        let lengths = dual_lengths(ball.threat().norm, &gradient);
        let gaps = gap.array().to_f64();
        let mut nearer = Vec::new();
        for (i, &position) in evaluated.iter().enumerate() {
            let distance = gaps[position].abs() / lengths[i];
            // Not where the gradient is zero or no number.
            if lengths[i] > 0.0 && distance < ratio[i] {
                ratio[i] = distance;
                nearer.push((i, i));
            }
        }
        normal = with_rows(&normal, &gradient, &nearer);
    }
    Faces { evaluated, ratio, normal }
}

/// `(m)`: the length of each gradient in the dual norm, l2 by the largest element first, so that squares neither vanish
/// nor overflow.
fn dual_lengths(norm: Norm, gradient: &Tensor) -> Vec<f64> {
    let shape = *gradient.shape();
    let rows = gradient.reshape([shape[0], shape[1..].iter().product()]);
    if norm == Norm::Linf {
        return rows.abs().sum(1).array().to_f64();
    }
    let largest = rows.abs().max(1);
    let scale = &largest + &largest.equal(&largest.zeros_like());
    let lengths = (&rows / &scale).norm(1).array().to_f64();
    lengths.iter().zip(largest.array().to_f64()).map(|(length, largest)| length * largest).collect()
}
