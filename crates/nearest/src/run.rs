//! Minimum-norm attacks in progress: points of all samples in one batch, each sample at its own place in the plan.

use crate::method::Seen;
use crate::outcome::NearestOutcome;
use crate::plan::Nearest;
use crate::sample::Sample;
use crate::sample_state::SampleState;
use crate::target::{LastEvaluation, NearestTarget};
use tarrl_attacks::{
    AttackDriver, AttackRun, AttackStatus, Problem, RunState, StateError, StepRule, verdicts,
};
use tarrl_tensor::{DType, Recording, Tensor, vjp};

/// A minimum-norm attack in progress: `while run.step() {}` and then [`finish`](NearestRun::finish), with a
/// [`state`](NearestRun::state) to store wherever it may be interrupted.
pub struct NearestRun<'a>(AttackRun<'a, NearestRule<'a>>);

/// A [`NearestRun`] stored.
pub type NearestState = RunState<Nearest, Vec<StoredSample>>;

/// A sample of a stored run.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct StoredSample(SampleState);

impl<'a> NearestRun<'a> {
    /// Nothing done yet.
    ///
    /// # Panics
    /// If a method has no steps for the norm, the threat model has levels, or f32 does not hold a coordinate.
    #[track_caller]
    pub fn new(plan: Nearest, target: &'a NearestTarget<'a>) -> Self {
        NearestRun(AttackRun::of(NearestRule::new(plan, target)))
    }

    /// One evaluation of a point of each sample that is not finished; `false` if all are.
    #[track_caller]
    pub fn step(&mut self) -> bool {
        self.0.step()
    }

    /// All steps to the end.
    #[track_caller]
    pub fn run(mut self) -> NearestOutcome {
        while self.step() {}
        self.finish()
    }

    /// Samples that are finished.
    pub fn finished(&self) -> usize {
        self.0.rule().states.iter().filter(|state| state.done).count()
    }

    /// What was found.
    pub fn finish(self) -> NearestOutcome {
        let found: Vec<_> = self.0.rule().states.iter().map(|state| state.found.clone()).collect();
        NearestOutcome::new(found, self.0.finish())
    }

    /// Everything that [`resume`](NearestRun::resume) needs to end with the same bits.
    pub fn state(&self) -> NearestState {
        self.0.state()
    }

    /// Goes on from a state, in place of what this run has done.
    ///
    /// # Errors
    /// If the state was taken of another plan or problem, is damaged, or is none that a run has.
    pub fn resume(self, state: &NearestState) -> Result<Self, StateError> {
        Ok(NearestRun(self.0.resume(state)?))
    }
}

/// The step rule of a plan.
pub(crate) struct NearestRule<'a> {
    plan: Nearest,
    target: &'a NearestTarget<'a>,
    samples: Vec<Sample>,
    states: Vec<SampleState>,
}

impl<'a> NearestRule<'a> {
    #[track_caller]
    fn new(plan: Nearest, target: &'a NearestTarget<'a>) -> Self {
        let ball = &target.problem.ball;
        let (threat, width) = (ball.threat(), ball.width());
        assert!(threat.levels.is_none(), "nearest mistake: its methods take any value, not levels");
        if let Some(method) = plan.methods.iter().find(|method| !method.knows(threat.norm)) {
            panic!("nearest mistake: {method:?} has no steps for {}", threat.norm);
        }
        let x = single_precision(ball.center());
        let sample = |row: usize| {
            let center = &x[row * width..][..width];
            let label = target.labels[row];
            Sample::new(threat, ball.radii()[row], center, label, target.problem.keys[row])
        };
        let samples: Vec<Sample> = (0..ball.len()).map(sample).collect();
        let states = vec![SampleState::new(); samples.len()];
        NearestRule { plan, target, samples, states }
    }

    /// Evaluates the points of some samples, and advances them.
    #[track_caller]
    fn evaluate(&mut self, driver: &mut AttackDriver<'a>, rows: &[usize]) {
        driver.reactivate();
        driver.retain_rows(rows);
        let active = driver.active().to_vec();
        // Success or budget has ended the others.
        rows.iter()
            .filter(|row| active.binary_search(row).is_err())
            .for_each(|&row| self.states[row].done = true);
        if active.is_empty() {
            return;
        }
        let points: Vec<f32> =
            active.iter().flat_map(|&row| self.states[row].point(&self.samples[row]).to_vec()).collect();
        let center = driver.ball().center();
        let u = Tensor::new(center.device(), *center.shape(), &points).cast(center.dtype());
        driver.stage().attack = self.states[active[0]].name().to_owned();
        driver.evaluate_tracked(&u, 0);
        let Some(LastEvaluation { point, scores }) = self.target.last.take() else { return };
        let labels: Vec<u32> = active.iter().map(|&row| self.target.labels[row]).collect();
        let statuses = verdicts(&scores, &labels);
        let k = scores.shape()[1];
        let z = scores.array().to_f64();
        let limits = self.target.problem.limits;
        let mut wanted = Vec::with_capacity(active.len());
        for (i, &row) in active.iter().enumerate() {
            let (state, sample) = (&mut self.states[row], &self.samples[row]);
            let inside = |status: &AttackStatus| status.success && sample.ball.contains(state.point(sample));
            let leaves = limits.early_stop && inside(&statuses[i]);
            let (slopes, cut) = state.enter(&self.plan, sample, &z[i * k..][..k], statuses[i], limits.budget);
            driver.flags(row).out_of_budget |= cut && !leaves;
            state.done |= leaves;
            wanted.push(Some(slopes).filter(|_| !cut && !state.done));
        }
        let gradients = self.differentiate(driver, &active, &wanted, &scores, &point);
        for (i, gradients) in gradients.into_iter().enumerate() {
            if wanted[i].is_none() {
                continue;
            }
            let (state, sample) = (&mut self.states[active[i]], &self.samples[active[i]]);
            let distance = sample.ball.distance(state.point(sample));
            let AttackStatus { success: mistake, margin } = statuses[i];
            let seen = Seen { z: &z[i * k..][..k], margin, mistake, distance, gradients };
            state.advance(&self.plan, sample, &seen);
        }
    }

    /// The gradients that the samples want, one of each at a time, counted; those that are not finite as zero.
    fn differentiate(
        &self,
        driver: &mut AttackDriver<'_>,
        rows: &[usize],
        wanted: &[Option<Vec<Vec<f64>>>],
        scores: &Tensor,
        point: &Tensor,
    ) -> Vec<Vec<Vec<f64>>> {
        let (m, k) = (rows.len(), scores.shape()[1]);
        let width = self.target.problem.ball.width();
        let count = |i: usize| wanted[i].as_ref().map_or(0, Vec::len);
        let mut gradients: Vec<Vec<Vec<f64>>> = vec![Vec::new(); m];
        for number in 0..(0..m).map(count).max().unwrap_or(0) {
            let zero = vec![0.0; k];
            let slope = |i: usize| wanted[i].as_ref().and_then(|slopes| slopes.get(number)).unwrap_or(&zero);
            let slopes: Vec<f64> = (0..m).flat_map(|i| slope(i).iter().copied()).collect();
            let slopes = Tensor::new(scores.device(), *scores.shape(), &slopes).cast(scores.dtype());
            let all =
                vjp(scores, &slopes, &[point], Recording::Off).remove(0).cast(DType::F64).array().to_f64();
            for i in (0..m).filter(|&i| number < count(i)) {
                let mut gradient = all[i * width..][..width].to_vec();
                let finite = gradient.iter().all(|g| g.is_finite());
                if !finite {
                    gradient.fill(0.0);
                }
                let flags = driver.flags(rows[i]);
                flags.bad_gradient |= !finite;
                flags.zero_gradient |= gradient.iter().all(|g| *g == 0.0);
                gradients[i].push(gradient);
            }
        }
        rows.iter().enumerate().for_each(|(i, &row)| driver.count(row, 0, count(i) as u32));
        gradients
    }
}

impl<'a> StepRule<'a> for NearestRule<'a> {
    type Config = Nearest;
    type State = Vec<StoredSample>;
    const NAME: &'static str = "nearest";

    fn problem(&self) -> &'a Problem<'a> {
        &self.target.problem
    }

    fn config(&self) -> &Nearest {
        &self.plan
    }

    /// Points whose gradients may be wanted and those whose are not are evaluated in batches of their own, so that no
    /// backward pass is computed in vain.
    fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool {
        let open: Vec<usize> = (0..self.states.len()).filter(|&row| !self.states[row].done).collect();
        let (with, without): (Vec<usize>, Vec<usize>) =
            open.into_iter().partition(|&row| self.states[row].wants_gradients());
        for rows in [&with, &without] {
            if !rows.is_empty() {
                self.evaluate(driver, rows);
            }
        }
        !(with.is_empty() && without.is_empty())
    }

    fn state(&self) -> Vec<StoredSample> {
        self.states.iter().cloned().map(StoredSample).collect()
    }

    fn restore(&mut self, state: &Vec<StoredSample>, _driver: &AttackDriver<'a>) -> Result<(), StateError> {
        if state.len() != self.samples.len() {
            return Err(StateError::Invalid("there are not as many samples".to_owned()));
        }
        for (StoredSample(state), sample) in state.iter().zip(&self.samples) {
            state.validate(&self.plan, sample)?;
        }
        self.states = state.iter().map(|StoredSample(state)| state.clone()).collect();
        Ok(())
    }
}

/// The coordinates of samples as f32, in which the methods step.
#[track_caller]
fn single_precision(x: &Tensor) -> Vec<f32> {
    let narrow = |v: f64| {
        assert!(
            f64::from(v as f32) == v,
            "nearest mistake: f32, in which its methods step, does not hold the coordinate {v} of an input; round the \
             inputs, with `cast(DType::F32)`"
        );
        v as f32
    };
    x.array().to_f64().into_iter().map(narrow).collect()
}
