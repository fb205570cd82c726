//! The attack driver: a problem, the accounting of its samples, and step rules that evaluate points and move.

pub(crate) mod accounting;
mod attack_driver;
mod attack_run;
pub mod bits;
mod deferred_evaluations;
mod envelope;
pub(crate) mod outcome;
mod problem;
mod state_error;
mod stored;

pub use accounting::{EarlyExit, Limits};
pub use attack_driver::{AttackDriver, StepResult};
pub use attack_run::{AttackRun, RunState, StepRule};
pub use envelope::Envelope;
pub(crate) use envelope::StoredRun;
pub use outcome::{AttackStatus, Closest, Flags, Origin, Outcome, Stage};
pub use problem::{Evaluate, Evaluation, Problem, Query};
pub use state_error::StateError;
pub(crate) use state_error::{demand, demand_positions};
pub use stored::Stored;
#[cfg(test)]
pub(crate) use stored::StoredOutcome;
