//! AutoAttack: APGD, FAB and Square as states of one sample on the host, and the run that gathers the points of many
//! samples, each at its own place in the suite, into batches.

mod apgd;
mod apgd_state;
mod box_projection;
mod checkpoints;
mod clean_cache;
mod config;
mod fab_state;
mod logit_losses;
mod mode;
mod outcome;
mod run;
mod sample_attack;
mod sample_ball;
mod sample_state;
mod square_state;
mod square_window;
#[cfg(test)]
mod tests;

pub use apgd::apgd;
pub use apgd_state::{Apgd, ApgdState};
pub use box_projection::{Hyperplane, nearest_on_hyperplane};
pub use config::{AttackSpec, AutoAttack, RunConfig, UnknownVersion, Version};
pub use fab_state::Fab;
pub use mode::Mode;
pub use outcome::{Progress, SuiteOutcome};
pub use run::{SuiteRun, SuiteState, auto_attack};
pub use sample_ball::SampleBall;
pub use square_state::Square;
