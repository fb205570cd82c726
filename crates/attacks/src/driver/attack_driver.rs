//! The attack driver: evaluates points for the samples that are still active, counts passes, keeps the best points.

use crate::driver::accounting::{SampleRecord, StoppingRule};
use crate::driver::deferred_evaluations::DeferredEvaluations;
use crate::driver::outcome::{Closest, Flags, Outcome, Stage};
use crate::driver::problem::{Evaluation, Problem, Query};
use crate::driver::state_error::demand;
use crate::driver::state_error::{StateError, demand_positions};
use crate::driver::stored::{DriverState, StoredOutcome};
use crate::threat::Ball;
use crate::threat::rows::{row_index, with_rows};
use tarrl_tensor::{Key, Tensor, grad};

/// An attack in progress on a [`Problem`], for the samples of a batch together.
///
/// A [`StepRule`](crate::StepRule) makes points `(m, …)` for the [`active`](AttackDriver::active) samples, has them
/// evaluated, drops its own state of the samples that have left ([`StepResult::keep`]), and moves. The driver counts the
/// passes of each sample, keeps the points of largest value and of least margin, notes where a sample was broken, and
/// stops each at its limits. Points off the levels of the threat model are quantized before they are evaluated; the
/// gradient is taken there and passed through.
pub struct AttackDriver<'a> {
    problem: &'a Problem<'a>,
    rule: StoppingRule,
    /// `(n)`
    records: Vec<SampleRecord>,
    /// `(n, …)`: the points of largest value, and `(n)` the values.
    best: Tensor,
    value: Vec<f64>,
    /// `(n, …)`: the points of least margin, once an evaluation has judged.
    closest: Option<Tensor>,
    /// The positions in the problem of the active samples, and their balls.
    active: Vec<usize>,
    ball: Ball,
    stage: Stage,
    deferred: DeferredEvaluations,
}

/// What an evaluation showed, of the samples that go on.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// `(m)`: values, NaN as minus infinity; empty if they are deferred.
    pub value: Vec<f64>,
    /// `(m, …)`: the gradient of the values, rows that are not finite set to zero; if it was taken
    /// and a sample goes on.
    pub gradient: Option<Tensor>,
    /// The positions, among the points evaluated, of the samples that go on; `None` if all do.
    pub kept: Option<Vec<usize>>,
}

impl StepResult {
    /// The rows of a tensor `(m, …)` that belong to the samples that go on.
    pub fn keep(&self, all: &Tensor) -> Tensor {
        match &self.kept {
            None => all.clone(),
            Some(kept) => all.gather(0, &row_index(all, kept)),
        }
    }

    /// The same for numbers of each sample.
    pub fn keep_each<T: Clone>(&self, all: &[T]) -> Vec<T> {
        match &self.kept {
            None => all.to_vec(),
            Some(kept) => kept.iter().map(|&i| all[i].clone()).collect(),
        }
    }
}

impl<'a> AttackDriver<'a> {
    /// Nothing evaluated yet. Samples whose budget does not allow one evaluation are not active.
    pub fn new(problem: &'a Problem<'a>) -> Self {
        let n = problem.len();
        let mut driver = AttackDriver {
            problem,
            rule: problem.limits.into(),
            records: vec![SampleRecord::default(); n],
            best: problem.ball.center().clone(),
            value: vec![f64::NEG_INFINITY; n],
            closest: None,
            active: (0..n).collect(),
            ball: problem.ball.clone(),
            stage: Stage::default(),
            deferred: DeferredEvaluations::default(),
        };
        let kept = (0..n).filter(|&row| driver.records[row].affords(&driver.rule, 1)).collect();
        driver.retain(kept);
        driver
    }

    /// The positions in the problem of the active samples.
    pub fn active(&self) -> &[usize] {
        &self.active
    }

    /// Their balls.
    pub fn ball(&self) -> &Ball {
        &self.ball
    }

    /// Their keys.
    pub fn keys(&self) -> Vec<Key> {
        self.active.iter().map(|&row| self.problem.keys[row]).collect()
    }

    /// Whether no sample is active any more.
    pub fn is_done(&self) -> bool {
        self.active.is_empty()
    }

    /// What was found.
    pub fn finish(mut self) -> Outcome {
        self.deferred.read(&mut self.value, &mut self.records);
        self.outcome()
    }

    /// The points of largest value, and nothing else of what was found: nothing is read back from the device.
    pub fn into_best(self) -> Tensor {
        self.best
    }

    /// Everything that [`resume`](AttackDriver::resume) needs.
    pub(crate) fn state(&self) -> DriverState {
        let mut outcome = self.outcome();
        let mut records = self.records.clone();
        self.deferred.clone().read(&mut outcome.value, &mut records);
        outcome.flags = records.iter().map(|record| record.flags).collect();
        DriverState {
            active: self.active.clone(),
            stage: self.stage.clone(),
            outcome: StoredOutcome::of(&outcome),
        }
    }

    /// The driver that a state was taken of, on the same problem.
    ///
    /// # Errors
    /// If no driver of this problem has such a state.
    pub(crate) fn resume(problem: &'a Problem<'a>, state: &DriverState) -> Result<Self, StateError> {
        let n = problem.len();
        demand_positions(&state.active, n)?;
        let targets = state.stage.targets.len();
        demand(targets == 0 || targets == n, "there is not a target for each sample")?;
        let found = state.outcome.restore(problem.ball.center())?;
        let mut driver = AttackDriver::new(problem);
        for (row, record) in driver.records.iter_mut().enumerate() {
            if let Some(closest) = &found.closest {
                let verdict = closest.verdict[row];
                (record.success, record.margin) = (verdict.success, verdict.margin);
            }
            record.origin.clone_from(&found.origin[row]);
            (record.forward, record.backward) = (found.forward[row], found.backward[row]);
            record.flags = found.flags[row];
            record.validate()?;
        }
        driver.ball = problem.ball.keep(&state.active);
        driver.active.clone_from(&state.active);
        driver.stage = state.stage.clone();
        (driver.best, driver.value) = (found.best, found.value);
        driver.closest = found.closest.map(|closest| closest.point);
        Ok(driver)
    }

    /// Where the attack stands, for provenance; to be kept up to date by it.
    pub fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    /// Evaluates the points `u` `(m, …)` of the active samples: one forward pass each.
    ///
    /// # Panics
    /// If there are not as many points as active samples, or the evaluation has another shape than `(m)`.
    #[track_caller]
    pub fn evaluate(&mut self, u: &Tensor) -> StepResult {
        let point = self.ball.snap(u).detach();
        let seen = self.call_problem(&point);
        let kept = self.enter(&point, &seen, 1);
        self.settle(&seen, kept, None)
    }

    /// The same for attacks that take gradients of their own: the evaluation sees tracked points, and
    /// those samples stay that can afford `next` passes more, 0 after the last points of an attack. Backward passes are
    /// left to [`count`](AttackDriver::count).
    ///
    /// # Panics
    /// As [`evaluate`](AttackDriver::evaluate).
    #[track_caller]
    pub fn evaluate_tracked(&mut self, u: &Tensor, next: u32) -> StepResult {
        let point = self.ball.snap(u).detach().requires_grad();
        let seen = self.call_problem(&point);
        let kept = self.enter(&point, &seen, next);
        self.settle(&seen, kept, None)
    }

    /// Evaluates the points `u` `(m, …)` and takes the gradient of the values in them: one forward pass each
    /// and one backward pass of those that go on.
    ///
    /// (The batch in which samples leave carries their rows through one backward pass that is not used; it is not
    /// counted.)
    ///
    /// # Panics
    /// As [`evaluate`](AttackDriver::evaluate).
    #[track_caller]
    pub fn evaluate_with_grad(&mut self, u: &Tensor) -> StepResult {
        let point = self.ball.snap(u).detach().requires_grad();
        let seen = self.call_problem(&point);
        self.enter_with_grad(&point, &seen)
    }

    /// As [`evaluate_with_grad`](AttackDriver::evaluate_with_grad), for step rules that do not use the values: where the
    /// evaluation does not judge and no sample can leave, values are read at the end
    /// ([`finish`](AttackDriver::finish)) and those of the result are empty, so that the host does not wait for the
    /// device in every step.
    ///
    /// # Panics
    /// As [`evaluate`](AttackDriver::evaluate).
    #[track_caller]
    pub fn evaluate_with_grad_deferred(&mut self, u: &Tensor) -> StepResult {
        let point = self.ball.snap(u).detach().requires_grad();
        let seen = self.call_problem(&point);
        if !self.can_defer(&seen) {
            return self.enter_with_grad(&point, &seen);
        }
        let gradient = self.defer(&point, &seen, Some(grad(&seen.value.sum_all(), &[&point]).remove(0)));
        StepResult { value: Vec::new(), gradient, kept: None }
    }

    /// Evaluates the points at the end of a run without a gradient, deferred if possible; `last`: no evaluation follows
    /// for which there would have to be a budget.
    ///
    /// # Panics
    /// As [`evaluate`](AttackDriver::evaluate).
    #[track_caller]
    pub fn evaluate_deferred(&mut self, u: &Tensor, last: bool) {
        let point = self.ball.snap(u).detach();
        let seen = self.call_problem(&point);
        if self.can_defer(&seen) {
            self.defer(&point, &seen, None);
            return;
        }
        let kept = self.enter(&point, &seen, u32::from(!last));
        self.settle(&seen, kept, None);
    }

    /// Counts passes of a sample that are not those of an evaluation.
    pub fn count(&mut self, row: usize, forward: u32, backward: u32) {
        self.records[row].count(forward, backward);
    }

    /// The flags of a sample, for attacks that take gradients of their own.
    pub fn flags(&mut self, row: usize) -> &mut Flags {
        &mut self.records[row].flags
    }

    /// Keeps the active samples at these positions among them.
    pub fn retain(&mut self, kept: Vec<usize>) {
        if kept.len() < self.active.len() {
            self.active = kept.iter().map(|&i| self.active[i]).collect();
            self.ball = self.ball.keep(&kept);
        }
    }

    /// Of the active samples, keeps those at these positions of the problem; [`reactivate`](AttackDriver::reactivate)
    /// brings the others back.
    pub fn retain_rows(&mut self, rows: &[usize]) {
        self.retain((0..self.active.len()).filter(|&i| rows.contains(&self.active[i])).collect());
    }

    /// Makes all samples active that neither success nor budget has ended: for the next of several restarts that
    /// samples leave one by one.
    pub fn reactivate(&mut self) {
        let active = |row: &usize| {
            let record = &self.records[*row];
            !record.leaves(&self.rule, false) && record.affords(&self.rule, 1)
        };
        self.active = (0..self.problem.len()).filter(active).collect();
        self.ball = self.problem.ball.keep(&self.active);
    }

    fn outcome(&self) -> Outcome {
        let closest = |point: &Tensor| Closest {
            point: point.clone(),
            verdict: self.records.iter().map(SampleRecord::status).collect(),
        };
        Outcome {
            best: self.best.clone(),
            value: self.value.clone(),
            closest: self.closest.as_ref().map(closest),
            origin: self.records.iter().map(|record| record.origin.clone()).collect(),
            forward: self.records.iter().map(|record| record.forward).collect(),
            backward: self.records.iter().map(|record| record.backward).collect(),
            flags: self.records.iter().map(|record| record.flags).collect(),
        }
    }

    #[track_caller]
    fn call_problem(&self, u: &Tensor) -> Evaluation {
        let rows = &self.active;
        let passes: Vec<u32> = rows.iter().map(|&row| self.records[row].forward).collect();
        let seen = (self.problem.evaluate)(u, Query { rows, passes: &passes });
        let m = rows.len();
        assert!(
            seen.value.shape()[..] == [m] && seen.verdict.as_ref().is_none_or(|v| v.len() == m),
            "attack: an evaluation of {m} points returned values of shape {:?}, not ({m})",
            seen.value.shape()
        );
        seen
    }

    /// Whether no sample can leave, and all are active.
    fn can_defer(&self, seen: &Evaluation) -> bool {
        seen.verdict.is_none() && self.rule.budget.is_none() && self.active.len() == self.problem.len()
    }

    fn defer(&mut self, u: &Tensor, seen: &Evaluation, gradient: Option<Tensor>) -> Option<Tensor> {
        let cost = self.rule.cost;
        let backward = if gradient.is_some() { cost } else { 0 };
        self.records.iter_mut().for_each(|record| record.count(cost, backward));
        let values = seen.value.detach();
        self.deferred.note((&self.value, &mut self.best), &u.detach(), &values, gradient.as_ref())
    }

    fn enter_with_grad(&mut self, u: &Tensor, seen: &Evaluation) -> StepResult {
        let kept = self.enter(u, seen, 2);
        let gradient = (!kept.is_empty()).then(|| grad(&seen.value.sum_all(), &[u]).remove(0));
        self.settle(seen, kept, gradient)
    }

    /// Counts an evaluation and keeps what it showed; the positions of the samples that go on to `next` evaluations and
    /// gradients more.
    fn enter(&mut self, u: &Tensor, seen: &Evaluation, next: u32) -> Vec<usize> {
        self.deferred.read(&mut self.value, &mut self.records);
        let u = u.detach();
        let values = seen.value.array().to_f64();
        let mut improved = Vec::new();
        for (position, (&row, &value)) in self.active.iter().zip(&values).enumerate() {
            self.records[row].count(self.rule.cost, 0);
            self.records[row].note_value(value);
            if value > self.value[row] {
                self.value[row] = value;
                improved.push((row, position));
            }
        }
        self.best = with_rows(&self.best, &u, &improved);
        if let Some(verdicts) = &seen.verdict {
            let mut nearer = Vec::new();
            for (position, (&row, &verdict)) in self.active.iter().zip(verdicts).enumerate() {
                if self.records[row].note_status(verdict, || self.stage.origin(row)) {
                    nearer.push((row, position));
                }
            }
            let closest = self.closest.as_ref().unwrap_or(&self.best);
            self.closest = Some(with_rows(closest, &u, &nearer));
        }
        let goes_on = |&i: &usize| self.records[self.active[i]].goes_on(&self.rule, false, next);
        (0..self.active.len()).filter(goes_on).collect()
    }

    /// Drops the samples that leave; checks and counts the gradients of the others.
    fn settle(&mut self, seen: &Evaluation, kept: Vec<usize>, gradient: Option<Tensor>) -> StepResult {
        let mut result = StepResult { value: Vec::new(), gradient: None, kept: None };
        if kept.len() < self.active.len() {
            result.kept = Some(kept.clone());
        }
        let number = |v: f64| if v.is_nan() { f64::NEG_INFINITY } else { v };
        let values: Vec<f64> = seen.value.array().to_f64().into_iter().map(number).collect();
        result.value = result.keep_each(&values);
        self.retain(kept);
        result.gradient = gradient.map(|gradient| self.checked(result.keep(&gradient)));
        result
    }

    /// The gradient with rows that are not finite set to zero; counts and flags.
    fn checked(&mut self, gradient: Tensor) -> Tensor {
        let shape = *gradient.shape();
        let flat = gradient.reshape([shape[0], shape[1..].iter().product()]);
        let sizes = flat.abs().sum(1).array().to_f64();
        for (&row, size) in self.active.iter().zip(&sizes) {
            self.records[row].count(0, self.rule.cost);
            self.records[row].note_gradient(*size == 0.0, size.is_finite());
        }
        if sizes.iter().all(|size| size.is_finite()) {
            return gradient;
        }
        let good: Vec<f64> = sizes.iter().map(|size| f64::from(u8::from(size.is_finite()))).collect();
        let good = Tensor::new(flat.device(), [shape[0], 1], &good).cast(flat.dtype());
        let good = good.broadcast_to(*flat.shape());
        good.select(&flat, &flat.zeros_like()).reshape(shape)
    }
}
