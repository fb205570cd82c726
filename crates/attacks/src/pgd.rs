//! Projected gradient ascent and its single step.

use crate::engine::{Evaluation, ascend};
use crate::outcome::Outcome;
use crate::threat::Threat;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Tensor};

/// What an attack ascends: points `(m, …)` and the rows of the batch they belong to, to values `(m)`,
/// each a function of its own point alone.
pub type Objective<'a> = dyn Fn(&Tensor, &[usize]) -> Tensor + 'a;

/// Where the first ascent begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At the input. Useless for a displacement from it, whose gradient vanishes there.
    Clean,
    /// At a random point of the ball.
    #[default]
    Random,
}

/// Projected gradient ascent with a fixed step (Madry et al. 2018).
///
/// In files: `{ steps = 20, step_size = "2/255", restarts = 2 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pgd {
    /// Steps of each restart.
    pub steps: usize,
    /// The length of a step in the norm of the threat model, in the units of the input.
    #[serde(with = "crate::fraction")]
    pub step_size: f64,
    /// Independent ascents; at least one. All but the first begin at random points.
    pub restarts: usize,
    /// Where the first one begins.
    pub start: Start,
    /// Whether the clean input competes, which costs one forward pass from a random start. Without it
    /// the best point may be worse than the input.
    pub include_clean: bool,
    /// Whether a sample leaves the batch at its first success, if the evaluation judges.
    pub early_stop: bool,
}

/// Twenty steps of 2/255 from one random point, beside the clean one, to the end.
impl Default for Pgd {
    fn default() -> Self {
        Pgd {
            steps: 20,
            step_size: 2.0 / 255.0,
            restarts: 1,
            start: Start::Random,
            include_clean: true,
            early_stop: false,
        }
    }
}

impl Pgd {
    /// One step of length `epsilon` from the input: FGSM (Goodfellow et al. 2015).
    pub fn single_step(epsilon: f64) -> Self {
        Pgd { steps: 1, step_size: epsilon, start: Start::Clean, ..Pgd::default() }
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(self.restarts > 0, "attack: no restarts, so nothing to do");
        assert!(
            self.step_size >= 0.0 && self.step_size.is_finite(),
            "attack: the step size is {}",
            self.step_size
        );
    }
}

/// Projected gradient ascent of `objective` around each sample of `x` `(n, …)`, with one key per sample.
///
/// Costs `restarts · steps` backward and `restarts · (steps + 1)` forward passes, and one forward
/// more if the clean input competes from a random start.
///
/// # Panics
/// As [`ascend`].
#[track_caller]
pub fn pgd(x: &Tensor, objective: &Objective<'_>, threat: &Threat, config: &Pgd, keys: &[Key]) -> Outcome {
    let evaluate = |u: &Tensor, rows: &[usize]| Evaluation { value: objective(u, rows), verdict: None };
    ascend(x, &evaluate, threat, config, keys)
}

/// One step of length ε from the input, kept where it improves the objective.
///
/// # Panics
/// As [`ascend`].
#[track_caller]
pub fn fgsm(x: &Tensor, objective: &Objective<'_>, threat: &Threat) -> Outcome {
    // Nothing is random from a clean start with one restart: any keys do.
    let keys = vec![Key::new(0); x.shape().first().copied().unwrap_or(0)];
    pgd(x, objective, threat, &Pgd::single_step(threat.epsilon), &keys)
}
