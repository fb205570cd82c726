//! The job engine: a study is a graph of jobs, each with a key that is a hash of everything that determines it.
//!
//! A finished job is recognized by its key and skipped; one that was interrupted keeps its folder and goes on from
//! its own checkpoint; one that fails takes only its dependants with it. The engine knows nothing of what the jobs
//! compute.

mod context;
mod display;
mod engine;
mod folder;
mod forecast;
mod graph;
mod key;
mod lock;
mod manifest;
mod plan;

pub use context::{Finished, JobContext};
pub use display::Display;
pub use engine::{Failure, RunEnvironment, RunSummary, TimeIsUp, count, execute};
pub use folder::{JobFolder, Runs, State};
pub use graph::{Graph, Job, Spec, Stage};
pub use key::Key;
pub use lock::Lock;
pub use manifest::write_atomic;
pub use manifest::{FileRecord, Manifest};
pub use plan::{Plan, PlannedJob};
