//! The attack driver: a problem, the accounting of its samples, and step rules that evaluate points and move.

pub(crate) mod accounting;
mod attack_driver;
mod attack_run;
pub(crate) mod bits;
mod deferred_evaluations;
mod envelope;
pub(crate) mod outcome;
mod problem;
mod stored;

pub use accounting::{EarlyExit, Limits};
pub use attack_driver::{AttackDriver, StepResult};
pub use attack_run::{AttackRun, RunState, StepRule};
pub use envelope::Envelope;
pub(crate) use envelope::{StoredRun, demand};
pub use outcome::{AttackStatus, Closest, Flags, Origin, Outcome, Stage};
pub use problem::{Evaluate, Evaluation, Problem, Query};
#[cfg(test)]
pub(crate) use stored::StoredOutcome;
pub(crate) use stored::demand_positions;
pub use stored::{StateError, Stored};
