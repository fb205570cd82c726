//! The task-agnostic robustness regularizer: how far an attacker can move a representation.

mod collapse;
mod config;
mod inner_maximizer;
mod jacobian;
mod noise_trace;
mod term;

pub use collapse::{CollapseFinding, RepresentationStats};
pub use config::{Anchor, InnerConfig, InnerKind, RegularizerConfig, RegularizerError};
pub use inner_maximizer::{AttackMaximizer, AttackMaximizerFrom, InnerMaximizer, InnerMaximum, InnerProblem};
pub use jacobian::Jacobian;
pub use noise_trace::{trace_under_noise, with_noise};
pub use term::{Regularizer, RegularizerInput, RegularizerTerm};
