//! The task-agnostic robustness bound: divergences, regularizer, constants of heads.
//!
//! For an encoder `f` trained without labels, every linear softmax head `h` put on it later, and the
//! ball `B(x)` of radius ε around `x`:
//!
//! ```text
//! max_{x' ∈ B(x)} loss(h(f(x')), y)  ≤  loss(h(f(x)), y) + C(h) · R(x),
//! R(x) = max_{x' ∈ B(x)} ‖f(x') − f(x)‖
//! ```
//!
//! `R` knows no label and no task, `C` no data. The theorems are stated and proved in `docs/theory.md`; an item
//! cites the one it computes.
//!
//! - Training makes `R` small: a [`Regularizer`] with a [`Divergence`], a [`Scale`] that keeps the encoder
//!   from shrinking instead, and an inner maximizer, of which a [`InnerMaximizer`] of your own may be one. An
//!   [`Observation`] says by name when it shrinks all the same.
//! - Trained heads have constants and bounds, in f64: [`LinearHead`], [`NormalisedHead`], [`MlpHead`] (section A
//!   and B of the theory, through [`SoftmaxHead`] and [`gap`]), [`RegressionHead`], [`KnnHead`]. A
//!   [`BoundReport`] sets the bounds beside the loss that an attack reached.
//! - For random representations any head and any bounded loss is covered: [`stochastic`] (section C).
//! - [`confidence`] goes from a sample to the population (section D).
//! - [`check`] points the theorems at an encoder of your own; with the feature `proptest` come strategies.
//!
//! ```
//! use tarrl_bound::{LinearHead, LpNorm};
//!
//! let head = LinearHead::new(3, 2, vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0], vec![0.0; 3]);
//! let (z, attacked, label) = ([1.0, 0.5], [0.7, 0.9], 0);
//! let radius = LpNorm::L2.distance(&z, &attacked);
//! let adversarial = head.loss(&attacked, label);
//! let gap = head.logit_gap_bound(&z, label, &head.supports(label, LpNorm::L2, radius));
//! let additive = head.loss(&z, label) + head.constant(LpNorm::L2) * radius;
//! assert!(adversarial <= gap && gap <= additive);
//! ```

#![forbid(unsafe_code)]

pub mod check;
pub mod confidence;
mod divergence;
pub mod gap;
mod heads;
pub mod linalg;
mod lp;
mod regularizer;
mod report;
mod stable;
pub mod stochastic;
mod whitening;

#[cfg(test)]
mod tests;

pub use divergence::{
    Divergence, Measure, Scale, TaskConstant, diagonal_gaussian_kl, pair_distance, spread, total_deviation,
};
pub use heads::{
    HeadConstants, KnnHead, LinearHead, MlpHead, NormalisedHead, RegressionHead, ScalarLoss, SoftmaxHead,
    angle, cap_support, chord, mean_squared_bound, squared_bound,
};
pub use lp::LpNorm;
pub use regularizer::{
    Anchor, Attack, AttackFrom, Finding, InnerConfig, InnerKind, InnerMaximizer, Jacobian, Maximum,
    Observation, Problem, Regularizer, RegularizerConfig, RegularizerError, Term, TermInput,
    trace_under_noise, with_noise,
};
pub use report::{BoundChain, BoundReport, Sample};
pub use whitening::Whitening;

/// The example of the README is compiled with the tests of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
