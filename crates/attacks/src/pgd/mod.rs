//! Projected gradient ascent (PGD) and its special cases.

mod config;
mod run;

pub use config::{Pgd, Start};
pub use run::{Objective, PgdRun, ascend, fgsm, pgd};
