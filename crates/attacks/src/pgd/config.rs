//! Configuration of projected gradient ascent: FGSM, R+FGSM, BIM, PGD and MI-FGSM as constructors.

use crate::threat::{Norm, Threat};
use serde::{Deserialize, Serialize};

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

impl Pgd {
    /// Whether the inputs are evaluated beside the ascents.
    pub(crate) fn evaluates_clean(&self) -> bool {
        self.include_clean && self.start != Start::Clean
    }
}
