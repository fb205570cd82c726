//! Step rules, and an attack in progress that is one step rule on the driver, with resume.

use crate::driver::attack_driver::AttackDriver;
use crate::driver::envelope::{Envelope, StoredRun};
use crate::driver::outcome::Outcome;
use crate::driver::problem::Problem;
use crate::driver::state_error::StateError;
use crate::driver::stored::DriverState;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tarrl_tensor::Tensor;

/// What one attack adds to the [`AttackDriver`]: where to evaluate next, and how to move from there.
///
/// Budget, early exit, provenance, counts, flags and the best points are the driver's; [`AttackRun`] gives the loop and
/// resume. PGD, APGD, Carlini-Wagner, DeepFool and HopSkipJump are step rules; this is random search:
///
/// ```
/// use tarrl_attacks::{
///     AttackDriver, AttackRun, Evaluation, Limits, Problem, Query, StateError, StepRule, Threat,
/// };
/// use tarrl_tensor::{Key, Tensor, cpu};
///
/// struct RandomSearch<'a> {
///     problem: &'a Problem<'a>,
///     points: u32,
///     taken: u32,
/// }
///
/// impl<'a> StepRule<'a> for RandomSearch<'a> {
///     type Config = u32;
///     type State = u32;
///     const NAME: &'static str = "random-search";
///
///     fn problem(&self) -> &'a Problem<'a> {
///         self.problem
///     }
///     fn config(&self) -> &u32 {
///         &self.points
///     }
///     fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool {
///         if driver.is_done() || self.taken == self.points {
///             return false;
///         }
///         driver.stage().step = self.taken;
///         let keys: Vec<Key> = driver.keys().iter().map(|key| key.fold(u64::from(self.taken))).collect();
///         driver.evaluate(&driver.ball().start(&keys));
///         self.taken += 1;
///         true
///     }
///     fn state(&self) -> u32 {
///         self.taken
///     }
///     fn restore(&mut self, taken: &u32, _driver: &AttackDriver<'a>) -> Result<(), StateError> {
///         if *taken > self.points {
///             return Err(StateError::Invalid("more points than there are".to_owned()));
///         }
///         self.taken = *taken;
///         Ok(())
///     }
/// }
///
/// let x = Tensor::new(&cpu(), [1, 2], &[0.5f32, 0.5]); // (n, d)
/// let sum = |u: &Tensor, _: Query<'_>| Evaluation::of(u.sum(1).reshape([u.shape()[0]]));
/// let problem = Problem::new(Threat::linf(0.1).around(&x), &sum, &[Key::new(7)], Limits::default());
/// let found = AttackRun::of(RandomSearch { problem: &problem, points: 200, taken: 0 }).run();
/// assert!(found.value[0] > 1.15 && found.value[0] <= 1.2 + 1e-6); // 2 (0.5 + ε) at the corner
/// assert_eq!(found.forward, [200]);
/// ```
pub trait StepRule<'a> {
    /// What configures the attack; a run resumes under the same one alone.
    type Config: Clone + PartialEq + Debug + Serialize;
    /// What the rule remembers between steps, to be stored.
    type State: Serialize;
    /// The name of the attack, for provenance.
    const NAME: &'static str;

    /// The problem under attack.
    fn problem(&self) -> &'a Problem<'a>;
    /// The configuration.
    fn config(&self) -> &Self::Config;
    /// Evaluates points of the active samples through the driver, and moves; `false` if there is nothing left to do.
    #[track_caller]
    fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool;
    /// What it remembers.
    fn state(&self) -> Self::State;
    /// Remembers it again; `driver` is where that of the state was.
    ///
    /// # Errors
    /// If no run has such a state: a shape, an index or a number that a later step would stumble over.
    fn restore(&mut self, state: &Self::State, driver: &AttackDriver<'a>) -> Result<(), StateError>;
}

/// An attack in progress: `while run.step() {}` and then [`finish`](AttackRun::finish), with a
/// [`state`](AttackRun::state) to store wherever it may be interrupted.
pub struct AttackRun<'a, R> {
    rule: R,
    driver: AttackDriver<'a>,
}

/// An [`AttackRun`] stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunState<C, S>(Envelope<StoredRun<C, Progress<S>>>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress<S> {
    driver: DriverState,
    rule: S,
}

#[cfg(test)]
impl<C: Clone + Serialize, S: Clone + Serialize> RunState<C, S> {
    /// The same with a checksum that fits.
    pub(crate) fn resealed(&self) -> Self {
        RunState(Envelope::new(self.0.content().clone()))
    }
}

impl<'a, R: StepRule<'a>> AttackRun<'a, R> {
    /// Nothing done yet.
    pub fn of(rule: R) -> Self {
        let mut driver = AttackDriver::new(rule.problem());
        driver.stage().attack = R::NAME.to_owned();
        AttackRun { rule, driver }
    }

    /// One step of the rule; `false` if there is nothing left to do.
    #[track_caller]
    pub fn step(&mut self) -> bool {
        self.rule.step(&mut self.driver)
    }

    /// The step rule, for what it knows beside the outcome.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// All steps to the end.
    #[track_caller]
    pub fn run(mut self) -> Outcome {
        while self.step() {}
        self.finish()
    }

    /// What was found.
    pub fn finish(self) -> Outcome {
        self.driver.finish()
    }

    /// The points of largest value `(n, …)` alone. Where values are deferred
    /// ([`AttackDriver::evaluate_with_grad_deferred`]), the host has not waited for the device until then.
    pub fn into_best(self) -> Tensor {
        self.driver.into_best()
    }

    /// Everything that [`resume`](AttackRun::resume) needs to end with the same bits.
    pub fn state(&self) -> RunState<R::Config, R::State> {
        RunState(Envelope::new(StoredRun {
            problem: self.rule.problem().fingerprint(),
            config: self.rule.config().clone(),
            progress: Progress { driver: self.driver.state(), rule: self.rule.state() },
        }))
    }

    /// Goes on from a state, in place of what this run has done.
    ///
    /// # Errors
    /// If the state was taken of another configuration or problem, is damaged, or is none that a run has.
    pub fn resume(mut self, state: &RunState<R::Config, R::State>) -> Result<Self, StateError> {
        let Progress { driver, rule } =
            state.0.open_run(self.rule.problem().fingerprint(), self.rule.config())?;
        self.driver = AttackDriver::resume(self.rule.problem(), driver)?;
        self.rule.restore(rule, &self.driver)?;
        Ok(self)
    }
}
