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
//! `R` knows no label and no task, `C` no data. Training makes `R` small (a [`Regularizer`] with a
//! [`Divergence`]); a trained [`LinearHead`] has its constants and its bounds; a [`BoundReport`] sets
//! the bounds beside the loss that an attack reached. The theorems, A1 to A6, are stated and proved in
//! `docs/theory.md`.
//!
//! ```
//! use tarrl_bound::{LinearHead, LpNorm};
//!
//! let head = LinearHead::new(3, 2, vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0], vec![0.0; 3]);
//! let (z, attacked, label) = ([1.0, 0.5], [0.7, 0.9], 0);
//! let radius = LpNorm::L2.distance(&z, &attacked);
//! let adversarial = head.loss(&attacked, label);
//! let gap = head.gap_bound(&z, label, &head.supports(label, LpNorm::L2, radius));
//! let additive = head.loss(&z, label) + head.constant(LpNorm::L2) * radius;
//! assert!(adversarial <= gap && gap <= additive);
//! ```

#![forbid(unsafe_code)]

pub mod certify;
pub mod check;
pub mod confidence;
mod divergence;
pub mod gap;
mod heads;
mod linalg;
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
    Anchor, Attack, Finding, InnerConfig, InnerKind, Jacobian, Maximiser, Maximum, Observation, Problem,
    Regularizer, RegularizerConfig, RegularizerError, Term, TermInput, trace_under_noise, with_noise,
};
pub use report::{BoundReport, Chain, Sample};
pub use whitening::Whitening;

/// The example of the README is compiled with the tests of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
