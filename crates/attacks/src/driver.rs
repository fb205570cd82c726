//! The engine: looks at points for the samples that still take part, counts, keeps the best.

use crate::ball::{Ball, row_index};
use crate::outcome::{AttackStatus, Flags, Origin, Outcome};
use crate::problem::{Evaluation, Problem, Query};
use crate::state::{SearchState, StateError, StoredOutcome};
use crate::unread::Unread;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Tensor, grad};

/// An attack in progress on a [`Problem`].
///
/// An attack is a loop: make points `(m, …)` for the samples [`rows`](AttackDriver::rows), look at them, drop its
/// own state of the samples that have left ([`StepResult::keep`]), move. The search counts the passes of
/// each sample, keeps the points of largest value and of least margin, and notes where a sample was
/// broken. Points off the levels of the threat model are snapped to them before anybody looks; the
/// gradient is taken there and passed through.
pub struct AttackDriver<'a> {
    problem: &'a Problem<'a>,
    pub(crate) outcome: Outcome,
    /// The positions in the problem of the samples that take part.
    pub(crate) rows: Vec<usize>,
    ball: Ball,
    stage: Stage,
    unread: Unread,
}

/// Where an attack stands, for provenance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The name of the attack.
    pub attack: String,
    /// `(n)`: the class that each sample of the problem is to be taken for; empty if none.
    pub targets: Vec<u32>,
    /// The restart, from 0.
    pub restart: u32,
    /// Steps taken in it.
    pub step: u32,
}

/// What a look showed, of the samples that go on.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// `(m)`: values; NaN is minus infinity.
    pub value: Vec<f64>,
    /// `(m)`: verdicts, empty if the evaluation does not judge.
    pub verdict: Vec<AttackStatus>,
    /// `(m, …)`: the gradient of the values, rows that are not finite set to zero; if it was asked for
    /// and somebody goes on.
    pub gradient: Option<Tensor>,
    /// The positions, among the points looked at, of the samples that go on; `None` if all do.
    pub left: Option<Vec<usize>>,
}

impl StepResult {
    /// The rows of a tensor `(m, …)` that belong to the samples that go on.
    pub fn keep(&self, all: &Tensor) -> Tensor {
        match &self.left {
            None => all.clone(),
            Some(left) => all.gather(0, &row_index(all, left)),
        }
    }

    /// The same for numbers of each sample.
    pub fn keep_each<T: Clone>(&self, all: &[T]) -> Vec<T> {
        match &self.left {
            None => all.to_vec(),
            Some(left) => left.iter().map(|&i| all[i].clone()).collect(),
        }
    }
}

impl<'a> AttackDriver<'a> {
    /// Nothing seen yet. Samples whose budget does not allow one look take no part.
    pub fn new(problem: &'a Problem<'a>) -> Self {
        let outcome = Outcome::new(problem.ball.center());
        let mut search = AttackDriver {
            problem,
            outcome,
            rows: (0..problem.len()).collect(),
            ball: problem.ball.clone(),
            stage: Stage::default(),
            unread: Unread::default(),
        };
        let left = (0..problem.len()).filter(|&row| search.affords(row, problem.limits.cost)).collect();
        search.retain(left);
        search
    }

    /// The positions in the problem of the samples that take part.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Their balls.
    pub fn ball(&self) -> &Ball {
        &self.ball
    }

    /// Their keys.
    pub fn keys(&self) -> Vec<Key> {
        self.rows.iter().map(|&row| self.problem.keys[row]).collect()
    }

    /// Whether nobody takes part any more.
    pub fn is_done(&self) -> bool {
        self.rows.is_empty()
    }

    /// What has been found so far.
    pub fn outcome(&self) -> &Outcome {
        debug_assert!(self.unread.is_empty(), "whoever glances reads what was found at the end");
        &self.outcome
    }

    /// What was found.
    pub fn finish(mut self) -> Outcome {
        self.unread.read(&mut self.outcome);
        self.outcome
    }

    /// The points of largest value, and nothing else of what was found: nothing is read back.
    pub(crate) fn into_best(self) -> Tensor {
        self.outcome.best
    }

    /// All of it, to be written down and gone on from by [`resume`](AttackDriver::resume).
    pub fn state(&self) -> SearchState {
        let mut outcome = self.outcome.clone();
        self.unread.clone().read(&mut outcome);
        SearchState {
            problem: self.problem.fingerprint(),
            rows: self.rows.clone(),
            stage: self.stage.clone(),
            outcome: StoredOutcome::of(&outcome),
        }
    }

    /// The search that a state was taken of, on the same problem.
    ///
    /// # Errors
    /// If the state is of another problem: other inputs, radii, keys or limits.
    pub fn resume(problem: &'a Problem<'a>, state: &SearchState) -> Result<Self, StateError> {
        if state.problem != problem.fingerprint() {
            return Err(StateError::OtherProblem);
        }
        let outcome = state.outcome.on(problem.ball.center().device());
        let (rows, stage) = (state.rows.clone(), state.stage.clone());
        Ok(AttackDriver {
            problem,
            outcome,
            ball: problem.ball.keep(&rows),
            rows,
            stage,
            unread: Unread::default(),
        })
    }

    /// Where the attack stands; to be kept up to date by it.
    pub fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    /// Looks at the points `u` `(m, …)`: one forward pass each.
    ///
    /// # Panics
    /// If there are not as many points as samples take part, or the evaluation has another shape than `(m)`.
    #[track_caller]
    pub fn evaluate(&mut self, u: &Tensor) -> StepResult {
        let point = self.ball.snap(u).detach();
        let seen = self.call_problem(&point);
        let left = self.enter(&point, &seen, 1);
        self.settle(&seen, left, None)
    }

    /// The same for the last points of an attack: nobody leaves for want of budget.
    ///
    /// # Panics
    /// As [`evaluate`](AttackDriver::evaluate).
    #[track_caller]
    pub fn evaluate_last(&mut self, u: &Tensor) -> StepResult {
        let point = self.ball.snap(u).detach();
        let seen = self.call_problem(&point);
        let left = self.enter(&point, &seen, 0);
        self.settle(&seen, left, None)
    }

    /// The same for attacks that take gradients of their own: the evaluation sees tracked points, and
    /// those stay who can afford `next` passes more. Backward passes are left to
    /// [`count`](AttackDriver::count).
    ///
    /// # Panics
    /// As [`evaluate`](AttackDriver::evaluate).
    #[track_caller]
    pub fn evaluate_open(&mut self, u: &Tensor, next: u32) -> StepResult {
        let point = self.ball.snap(u).detach().requires_grad();
        let seen = self.call_problem(&point);
        let left = self.enter(&point, &seen, next);
        self.settle(&seen, left, None)
    }

    /// Looks at the points `u` `(m, …)` and takes the gradient of the values in them: one forward pass each
    /// and one backward pass of those that go on.
    ///
    /// (The batch in which samples leave carries their rows through one backward pass that nobody
    /// uses; it is not counted.)
    ///
    /// # Panics
    /// As [`evaluate`](AttackDriver::evaluate).
    #[track_caller]
    pub fn evaluate_with_grad(&mut self, u: &Tensor) -> StepResult {
        let point = self.ball.snap(u).detach().requires_grad();
        let seen = self.call_problem(&point);
        let left = self.enter(&point, &seen, 2);
        let gradient = (!left.is_empty()).then(|| grad(&seen.value.sum_all(), &[&point]).remove(0));
        self.settle(&seen, left, gradient)
    }

    /// As [`evaluate_with_grad`](AttackDriver::evaluate_with_grad), for attacks that do not ask for values: where nobody judges and nobody can
    /// leave, none is read before [`finish`](AttackDriver::finish), so that the host need not wait for a device.
    #[track_caller]
    pub(crate) fn glance_back(&mut self, u: &Tensor) -> StepResult {
        let point = self.ball.snap(u).detach().requires_grad();
        let seen = self.call_problem(&point);
        let gradient = || grad(&seen.value.sum_all(), &[&point]).remove(0);
        if self.is_free(&seen) {
            let gradient = self.glance(&point, &seen, Some(gradient()));
            return StepResult { value: Vec::new(), verdict: Vec::new(), gradient, left: None };
        }
        let left = self.enter(&point, &seen, 2);
        let gradient = (!left.is_empty()).then(gradient);
        self.settle(&seen, left, gradient)
    }

    /// The same without a gradient, for points from which an attack goes on elsewhere, or, if they are its `last`, not at all.
    #[track_caller]
    pub(crate) fn glance_end(&mut self, u: &Tensor, last: bool) {
        let point = self.ball.snap(u).detach();
        let seen = self.call_problem(&point);
        if self.is_free(&seen) {
            self.glance(&point, &seen, None);
            return;
        }
        let left = self.enter(&point, &seen, u32::from(!last));
        self.settle(&seen, left, None);
    }

    /// Whether nobody can leave, and all take part.
    fn is_free(&self, seen: &Evaluation) -> bool {
        seen.verdict.is_none()
            && self.problem.limits.budget.is_none()
            && self.rows.len() == self.problem.len()
    }

    fn glance(&mut self, u: &Tensor, seen: &Evaluation, gradient: Option<Tensor>) -> Option<Tensor> {
        let cost = self.problem.limits.cost;
        self.outcome.forward.iter_mut().for_each(|count| *count += cost);
        if gradient.is_some() {
            self.outcome.backward.iter_mut().for_each(|count| *count += cost);
        }
        let values = seen.value.detach();
        self.unread.note(&mut self.outcome, &u.detach(), &values, gradient.as_ref())
    }

    /// Counts passes of a sample that were no looks: those of one draw of a model that is random.
    pub fn count(&mut self, row: usize, forward: u32, backward: u32) {
        self.outcome.forward[row] += forward;
        self.outcome.backward[row] += backward;
    }

    /// The signs of trouble of a sample, for attacks that take gradients of their own.
    pub fn flags(&mut self, row: usize) -> &mut Flags {
        &mut self.outcome.flags[row]
    }

    /// Drops samples by their positions among those that take part.
    pub fn retain(&mut self, left: Vec<usize>) {
        if left.len() < self.rows.len() {
            self.rows = left.iter().map(|&i| self.rows[i]).collect();
            self.ball = self.ball.keep(&left);
        }
    }

    /// Of the samples that take part, only those at these positions of the problem go on; the others can be
    /// brought back by [`reopen`](AttackDriver::reopen).
    pub fn only(&mut self, rows: &[usize]) {
        self.retain((0..self.rows.len()).filter(|&i| rows.contains(&self.rows[i])).collect());
    }

    /// Everybody whom neither success nor budget has ended takes part again, and nobody else: for the
    /// next of several restarts that samples leave one by one.
    pub fn reopen(&mut self) {
        let (limits, outcome) = (&self.problem.limits, &self.outcome);
        let done = |row: usize| {
            limits.early_stop && outcome.closest.as_ref().is_some_and(|c| c.verdict[row].success)
        };
        let rows: Vec<usize> =
            (0..self.problem.len()).filter(|&row| !done(row) && self.affords(row, limits.cost)).collect();
        self.ball = self.problem.ball.keep(&rows);
        self.rows = rows;
    }

    #[track_caller]
    fn call_problem(&self, u: &Tensor) -> Evaluation {
        let problem = self.problem;
        let rows: Vec<usize> = self.rows.iter().map(|&row| problem.rows()[row]).collect();
        let passes: Vec<u32> = self.rows.iter().map(|&row| self.outcome.forward[row]).collect();
        let seen = (problem.evaluate)(u, Query { rows: &rows, passes: &passes });
        let m = rows.len();
        assert!(
            seen.value.shape()[..] == [m] && seen.verdict.as_ref().is_none_or(|v| v.len() == m),
            "attack: an evaluation of {m} points returned values of shape {:?}, not ({m})",
            seen.value.shape()
        );
        seen
    }

    /// Counts and keeps what was seen; the positions of the samples that go on if an evaluation more, and
    /// its gradient, `next` evaluations' passes in all, lie within the budget.
    fn enter(&mut self, u: &Tensor, seen: &Evaluation, next: u32) -> Vec<usize> {
        self.unread.read(&mut self.outcome);
        let limits = self.problem.limits;
        for &row in &self.rows {
            self.outcome.forward[row] += limits.cost;
        }
        let stage = &self.stage;
        let origin = |row: usize| Origin {
            attack: stage.attack.clone(),
            target: stage.targets.get(row).copied(),
            restart: stage.restart,
            step: stage.step,
        };
        let values = seen.value.array().to_f64();
        self.outcome.note(&u.detach(), (&values, seen.verdict.as_deref()), &self.rows, &origin);
        let mut left = Vec::with_capacity(self.rows.len());
        for i in 0..self.rows.len() {
            let done = limits.early_stop && seen.verdict.as_ref().is_some_and(|v| v[i].success);
            let affords = self.affords(self.rows[i], next * limits.cost);
            self.outcome.flags[self.rows[i]].out_of_budget |= !done && !affords;
            if !done && affords {
                left.push(i);
            }
        }
        left
    }

    /// Drops who leaves, checks and counts gradients of who stays.
    fn settle(&mut self, seen: &Evaluation, left: Vec<usize>, gradient: Option<Tensor>) -> StepResult {
        let mut kept = StepResult { value: Vec::new(), verdict: Vec::new(), gradient: None, left: None };
        if left.len() < self.rows.len() {
            kept.left = Some(left.clone());
        }
        let number = |v: f64| if v.is_nan() { f64::NEG_INFINITY } else { v };
        let values: Vec<f64> = seen.value.array().to_f64().into_iter().map(number).collect();
        kept.value = kept.keep_each(&values);
        kept.verdict = seen.verdict.as_ref().map_or_else(Vec::new, |v| kept.keep_each(v));
        self.retain(left);
        kept.gradient = gradient.map(|gradient| self.checked(kept.keep(&gradient)));
        kept
    }

    /// The gradient with rows that are not finite set to zero; counts and flags.
    fn checked(&mut self, gradient: Tensor) -> Tensor {
        let shape = *gradient.shape();
        let flat = gradient.reshape([shape[0], shape[1..].iter().product()]);
        let sizes = flat.abs().sum(1).array().to_f64();
        for (&row, size) in self.rows.iter().zip(&sizes) {
            self.outcome.backward[row] += self.problem.limits.cost;
            self.outcome.flags[row].zero_gradient |= *size == 0.0;
            self.outcome.flags[row].bad_gradient |= !size.is_finite();
        }
        if sizes.iter().all(|size| size.is_finite()) {
            return gradient;
        }
        let good: Vec<f64> = sizes.iter().map(|size| f64::from(u8::from(size.is_finite()))).collect();
        let good = Tensor::new(flat.device(), [shape[0], 1], &good).cast(flat.dtype());
        let good = good.broadcast_to(*flat.shape());
        good.select(&flat, &flat.zeros_like()).reshape(shape)
    }

    fn affords(&self, row: usize, passes: u32) -> bool {
        let spent = self.outcome.forward[row] + self.outcome.backward[row];
        self.problem.limits.budget.is_none_or(|budget| spent + passes <= budget)
    }
}
