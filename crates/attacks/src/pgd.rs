//! Projected gradient ascent and its single step.

use crate::outcome::Outcome;
use crate::problem::{Evaluate, Evaluation, Limits, Problem, Query};
use crate::run::PgdRun;
use crate::threat::{Norm, Threat};
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
    /// Half of ε away from the input, every coordinate in a random direction: the start of R+FGSM, for
    /// l-infinity. In other norms the projection of that point.
    HalfSigns,
    /// At distance ε along the direction in which the model moves most, found by three power iterations,
    /// each a forward and a backward pass, from a random direction (Miyato et al. 2018): for
    /// displacements.
    Spectral,
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
    /// μ: the share of the accumulated direction that a step keeps; 0 for none. Directions are summed
    /// as gradients of l1 length one, and the step is that of the sum (Dong et al. 2018).
    #[serde(skip_serializing_if = "is_zero")]
    pub momentum: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
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
            momentum: 0.0,
        }
    }
}

impl Pgd {
    /// PGD as it is usually evaluated: `steps` steps of [`usual_step`](Pgd::usual_step) from one random point, beside
    /// the clean input.
    ///
    /// ```
    /// use tarrl_attacks::{Pgd, Threat};
    ///
    /// let pgd = Pgd::usual(&Threat::linf(8.0 / 255.0), 20);
    /// assert_eq!((pgd.steps, pgd.step_size), (20, 2.5 * (8.0 / 255.0) / 20.0));
    /// ```
    pub fn usual(threat: &Threat, steps: usize) -> Self {
        Pgd { steps, step_size: Pgd::usual_step(threat, steps), ..Pgd::default() }
    }

    /// The length 2.5 ε / `steps` (Madry et al. 2018): all steps together reach two and a half times as far as the
    /// ball. In l0 it is 1: each step changes one coordinate more.
    pub fn usual_step(threat: &Threat, steps: usize) -> f64 {
        if threat.norm == Norm::L0 { 1.0 } else { 2.5 * threat.epsilon / steps as f64 }
    }

    /// One step of length `epsilon` from the input: FGSM (Goodfellow et al. 2015).
    pub fn single_step(epsilon: f64) -> Self {
        Pgd { steps: 1, step_size: epsilon, start: Start::Clean, ..Pgd::default() }
    }

    /// One step of length 1.25 ε from a random point, that of fast adversarial training
    /// (Wong et al. 2020).
    pub fn fast(epsilon: f64) -> Self {
        Pgd { steps: 1, step_size: 1.25 * epsilon, ..Pgd::default() }
    }

    /// From a point moved by ε/2 in random signs, one step of the other half: R+FGSM (Tramèr et al. 2018).
    pub fn random_fgsm(epsilon: f64) -> Self {
        Pgd { steps: 1, step_size: 0.5 * epsilon, start: Start::HalfSigns, ..Pgd::default() }
    }

    /// Steps from the input without a random start: BIM (Kurakin et al. 2017), ten of 2/255 unless
    /// changed.
    pub fn basic_iterative() -> Self {
        Pgd { steps: 10, start: Start::Clean, ..Pgd::default() }
    }

    /// Ten steps of ε/10 with momentum 1 from the input: MI-FGSM (Dong et al. 2018).
    pub fn momentum_iterative(epsilon: f64) -> Self {
        Pgd { step_size: epsilon / 10.0, momentum: 1.0, ..Pgd::basic_iterative() }
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(self.restarts > 0, "attack: no restarts, so nothing to do");
        assert!(
            self.step_size >= 0.0 && self.step_size.is_finite(),
            "attack: the step size is {}",
            self.step_size
        );
        assert!((0.0..=1.0).contains(&self.momentum), "attack: the momentum is {}", self.momentum);
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
    let evaluate = |u: &Tensor, visit: Query<'_>| Evaluation::of(objective(u, visit.rows));
    ascend(x, &evaluate, threat, config, keys)
}

/// Projected gradient ascent of `evaluate` around each sample of `x` `(n, …)`, with one key per sample.
///
/// The first restart begins where `config.start` says, the others at random points. Each takes
/// `config.steps` steps; the last point is evaluated without a backward pass. With
/// `config.early_stop`, a sample leaves the batch, and all restarts, at its first success: it is
/// evaluated no more.
///
/// A gradient that is not finite counts as zero, a NaN value as minus infinity; both are flagged.
/// Points are compared by strict improvement, so that the first of equals is kept.
///
/// # Panics
/// If there are not as many keys as samples, the configuration is senseless, `x` leaves the box
/// ([`Threat::around`]), or `evaluate` answers in another shape than `(m)`.
#[track_caller]
pub fn ascend(x: &Tensor, evaluate: &Evaluate<'_>, threat: &Threat, config: &Pgd, keys: &[Key]) -> Outcome {
    let limits = Limits { early_stop: config.early_stop, ..Limits::default() };
    config.run(&Problem::new(threat.around(x), evaluate, keys, limits))
}

impl Pgd {
    /// The attack on a problem, whose limits hold in place of `early_stop`.
    ///
    /// # Panics
    /// As [`ascend`].
    #[track_caller]
    pub fn run(&self, problem: &Problem<'_>) -> Outcome {
        let mut run = PgdRun::new(*self, problem);
        while run.step() {}
        run.finish()
    }
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
