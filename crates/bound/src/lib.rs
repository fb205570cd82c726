#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! - Training makes `R` small: a [`Regularizer`] with a [`Divergence`], a [`Scale`] against solutions that only shrink the
//!   representation, and an [`InnerMaximizer`], built in or your own. [`RepresentationStats`] reports collapse as a
//!   [`CollapseFinding`].
//! - Trained heads have constants and bounds, in f64: [`LinearHead`], [`NormalizedHead`], [`MlpHead`] (section A
//!   and B of the theory, through [`SoftmaxHead`] and [`gap`]), [`RegressionHead`], [`KnnHead`]. A
//!   [`BoundReport`] compares the bounds with the loss that an attack reached.
//! - For stochastic representations any head and any bounded loss is covered: [`stochastic`] (section C).
//! - [`confidence`] goes from a sample to the population (section D).
//! - [`check`] tests the theorems on your own encoder; the feature `proptest` adds strategies for random instances.
//!
//! What docs/theory.md proves is public, whether or not the study uses it.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod check;
mod divergence;
mod heads;
mod numerics;
mod regularizer;
pub mod theorems;

#[cfg(test)]
mod tests;

pub use divergence::{
    Divergence, Measure, Scale, TaskConstant, diagonal_gaussian_kl, spread, total_deviation,
};
pub use heads::{
    HeadConstants, KnnHead, LinearHead, MlpHead, NormalizedHead, RegressionHead, ScalarLoss, SoftmaxHead,
    angle, cap_support, chord, mean_squared_bound, squared_bound,
};
pub use numerics::{LpNorm, linalg};
pub use regularizer::{
    Anchor, AttackMaximizer, AttackMaximizerFrom, CollapseFinding, InnerConfig, InnerKind, InnerMaximizer,
    InnerMaximum, InnerProblem, Jacobian, Regularizer, RegularizerConfig, RegularizerError, RegularizerInput,
    RegularizerTerm, RepresentationStats, trace_under_noise, with_noise,
};
pub use theorems::bound_chain::{AttackedSample, BoundChain, BoundReport, out_of_order};
pub use theorems::whitening::Whitening;
pub use theorems::{confidence, gap, stochastic};
