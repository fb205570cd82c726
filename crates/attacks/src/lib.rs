//! Threat models and adversarial attacks: closures in, perturbed inputs out.
//!
//! An attack looks, for each sample `x` of a batch, for the worst point of a ball:
//!
//! ```text
//! max_{u ∈ B(x)} value(u),    B(x) = { u : ‖u − x‖ ≤ ε } ∩ box
//! ```
//!
//! where `value` is any function of one sample: a label loss, a margin, the displacement of a
//! representation. It is a closure over tensors; an encoder of any origin fits.
//!
//! ```
//! use tarrl_attacks::{Pgd, Threat, pgd};
//! use tarrl_tensor::{Key, Tensor, cpu};
//!
//! let x = Tensor::new(&cpu(), [2, 2], &[0.5f32, 0.5, 0.2, 0.9]); // (n, d), values in [0, 1]
//! let w = Tensor::new(&cpu(), [2, 1], &[1.0f32, -2.0]);
//! let rise = |u: &Tensor, rows: &[usize]| u.matmul(&w).reshape([rows.len()]);
//! let config = Pgd { steps: 4, step_size: 0.05, ..Pgd::default() };
//! let found = pgd(&x, &rise, &Threat::linf(0.1), &config, &[Key::new(7), Key::new(8)]);
//! assert!((found.value[0] - (0.6 - 2.0 * 0.4)).abs() < 1e-6); // ε‖w‖₁ above the clean −0.5
//! assert!((found.value[1] - (0.3 - 2.0 * 0.8)).abs() < 1e-6);
//! ```
//!
//! | wanted | item |
//! |---|---|
//! | a ball of l-infinity, l2, l1 or l0 around each sample, with its own radius, on 8-bit levels if asked | [`Threat`], [`Ball`] |
//! | FGSM, R+FGSM, BIM, PGD, MI-FGSM | [`pgd()`] and the constructors of [`Pgd`], [`fgsm`] |
//! | the nearest mistake | [`CarliniWagner`], [`DeepFool`], from decisions alone [`HopSkipJump`] |
//! | the parameter-free suite | [`auto_attack`], [`Apgd`], [`Fab`], [`Square`] |
//! | a classifier as the target | [`attack_classifier`], [`classify`], [`classify_towards`] |
//! | a random classifier as the target | [`Eot`] |
//! | a representation as the target, without labels | [`represent`], and what it says: [`measures`] |
//! | a step rule of one's own | [`AttackDriver`] on a [`Problem`] |
//! | whether the number can be believed | [`examine()`], [`masking`] |
//!
//! - A [`Threat`] has three verbs on the [`Ball`] around a batch: start, step, project. Its points are
//!   inside in exact arithmetic, never a rounding error outside.
//! - [`AttackDriver`] is the one engine. It keeps the point of largest value and the point of least margin, notes
//!   which attack, target, restart and step broke a sample, drops finished samples from the batch,
//!   counts passes per sample and stops each at its budget ([`Limits`]).
//! - Randomness is one key per sample, so that a result depends neither on the size nor on the order
//!   of the batch, given a model whose rows do not depend on each other.
//! - A run can be written down after every look and gone on with to the same bits ([`PgdRun`],
//!   [`SuiteRun`], [`CarliniWagnerRun`], [`DeepFoolRun`], [`HopSkipJumpRun`], [`state`]).
//! - Gradients are taken in the input alone: an attack on a frozen model computes no weight gradient. After
//!   its first steps a projected gradient ascent allocates no memory for values.

#![forbid(unsafe_code)]

mod ball;
mod carlini_wagner;
mod classifier;
mod deepfool;
mod draw;
mod driver;
mod eot;
mod examine;
pub mod fraction;
mod hop_skip_jump;
mod label;
mod lattice;
pub mod masking;
pub mod measures;
mod minimal;
mod outcome;
mod pgd;
mod problem;
mod project;
pub mod represent;
mod round;
mod run;
mod scratch;
pub mod state;
mod steepest;
mod suite;
mod threat;
mod unread;

#[cfg(test)]
mod tests;

pub use ball::Ball;
pub use carlini_wagner::{CarliniWagner, CarliniWagnerRun, CarliniWagnerState};
pub use classifier::{
    ClassifierOutcome, TargetSuccess, attack_classifier, classify, classify_towards, verdicts,
};
pub use deepfool::{DeepFool, DeepFoolRun, DeepFoolState};
pub use driver::{AttackDriver, Stage, StepResult};
pub use eot::{Confirmation, Eot, RandomLogits};
pub use examine::{Examination, examine};
pub use hop_skip_jump::{HopSkipJump, HopSkipJumpRun, HopSkipJumpState};
pub use label::{LabelLoss, Substitute, TargetLoss, dlr, margins, ranks, targeted_dlr};
pub use minimal::{Classifier, MinimalAdversarial};
pub use outcome::{AttackStatus, Closest, Flags, Origin, Outcome};
pub use pgd::{Objective, Pgd, Start, ascend, fgsm, pgd};
pub use problem::{Evaluate, Evaluation, Limits, Problem, Query};
pub use run::{PgdRun, PgdState};
pub use state::{SearchState, StateError, Stored, StoredOutcome};
pub use suite::{
    Apgd, AttackSpec, AutoAttack, EarlyExit, Fab, Mode, Progress, RunConfig, Square, SuiteOutcome, SuiteRun,
    SuiteState, Version, apgd, auto_attack, checkpoints,
};
pub use threat::{Norm, Threat};
