//! Task-agnostic robustness bound: divergences, regularizer, heads and theorems.
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
mod divergence;
mod heads;
mod numerics;
mod regularizer;
pub mod theorems;

#[cfg(test)]
mod tests;

pub use divergence::{Divergence, Measure, Scale, TaskConstant, diagonal_gaussian_kl, spread};
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
pub use theorems::bound_chain::{AttackedSample, BoundChain, BoundReport};
pub use theorems::whitening::Whitening;
pub use theorems::{confidence, gap, stochastic};
