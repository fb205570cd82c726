#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! | task | item |
//! |---|---|
//! | a ball in l-infinity, l2, l1 or l0, with a radius for each sample, optionally on 8-bit levels | [`Threat`], [`Ball`] |
//! | FGSM, R+FGSM, BIM, PGD, MI-FGSM | [`pgd()`] and the constructors of [`Pgd`], [`fgsm`] |
//! | minimal-norm adversarial examples | [`CarliniWagner`], [`DeepFool`], decision-based [`HopSkipJump`] |
//! | AutoAttack and its parts | [`auto_attack`], [`Apgd`], [`Fab`], [`Square`] |
//! | GAMA-PGD, the targets of MALT, the loss of PMA | [`gama_pgd`], [`malt_targets`], [`LabelLoss::ProbabilityMargin`] |
//! | a classifier as the target | [`attack_classifier`], [`classify`], [`classify_towards`] |
//! | a random classifier as the target (EOT) | [`Eot`] |
//! | a representation as the target, without labels | [`representation`] |
//! | an attack of your own | a [`StepRule`] on the [`AttackDriver`] |
//! | gradient masking | [`diagnostics`] |
//!
//! - A [`Threat`] has three verbs on the [`Ball`] around a batch: start, step, project. Its points are
//!   inside in exact arithmetic, never a rounding error outside.
//! - Budget, early exit, provenance, flags and counts of passes are one accounting for all attacks. An attack is a
//!   [`StepRule`]: it evaluates points through the [`AttackDriver`] and moves. The attacks of AutoAttack also run with
//!   every sample at its own place in the suite, in full batches ([`SuiteRun`]).
//! - Randomness is one key per sample, so that a result depends neither on the size nor on the order
//!   of the batch, given a model whose rows do not depend on each other.
//! - A run can be stored after every step and resumed to the same bits ([`AttackRun::state`], [`SuiteRun::state`]).
//! - Gradients are taken in the input alone: an attack on a frozen model computes no weight gradient. After
//!   its first steps PGD allocates no memory for values.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod diagnostics;
pub mod fraction;
pub mod representation;

mod autoattack;
mod classifier;
mod driver;
mod minimal_norm;
mod pgd;
mod threat;

#[cfg(test)]
mod tests;

pub use autoattack::{
    Apgd, ApgdState, AttackSpec, AutoAttack, Fab, Hyperplane, Mode, Progress, RunConfig, SampleBall, Square,
    SuiteOutcome, SuiteRun, SuiteState, UnknownVersion, Version, apgd, auto_attack, nearest_on_hyperplane,
};
pub use classifier::{
    ClassifierOutcome, Confirmation, Eot, Gama, LabelLoss, RandomLogits, TargetLoss, TargetSuccess,
    attack_classifier, classify, classify_towards, gama_pgd, malt_targets, margins, verdicts,
};
pub use driver::{
    AttackDriver, AttackRun, AttackStatus, Closest, EarlyExit, Envelope, Evaluate, Evaluation, Flags, Limits,
    Origin, Outcome, Problem, Query, RunState, Stage, StateError, StepResult, StepRule, Stored, bits,
};
pub use minimal_norm::{
    CarliniWagner, CarliniWagnerRun, Classifier, DeepFool, DeepFoolRun, HopSkipJump, HopSkipJumpRun,
    MinimalAdversarial,
};
pub use pgd::{Objective, Pgd, PgdRun, Start, ascend, fgsm, pgd};
pub use threat::{Ball, Norm, RadiusError, Threat, UnknownNorm};
