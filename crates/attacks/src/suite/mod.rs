//! APGD, FAB, Square and AutoAttack: step rules of one sample on the host, and the run that gathers the
//! points of many samples into batches.

mod apgd;
pub(crate) mod bits;
mod bump;
mod cell;
mod checkpoints;
mod climb;
mod fab;
mod home;
mod hyperplane;
mod mission;
mod mode;
mod plan;
mod run;
mod score;
mod square;
#[cfg(test)]
mod tests;

pub use apgd::{Apgd, apgd};
pub use checkpoints::checkpoints;
pub use fab::Fab;
pub use mode::Mode;
pub use plan::{AttackSpec, AutoAttack, EarlyExit, RunConfig, Version};
pub use run::{Progress, SuiteOutcome, SuiteRun, SuiteState, auto_attack};
pub use square::Square;
