//! The job engine: a study is a graph of jobs, each with a key that is a hash of everything that determines it.
//!
//! A finished job is recognized by its key and skipped; one that was interrupted resumes from its own
//! checkpoint; if one fails, only the jobs that depend on it are skipped. Any number of processes share a run folder: each
//! job is run by the one that claims it. The engine does not know what jobs compute.
//!
//! ```
//! use serde_json::{Value, json};
//! use tarrl_jobs::{Display, Graph, Job, Plan, Runs, RunEnvironment, Session, Spec, Stage, Stop, execute};
//!
//! # let out = std::env::temp_dir().join(format!("tarrl-study-doc-{}", std::process::id()));
//! let spec = Spec {
//!     name: "six by seven".into(),
//!     stage: Stage { kind: "product", version: 1 },
//!     seed: 0,
//!     config: json!({"a": 6, "b": 7}),
//!     inputs: vec![],
//!     seconds: 0.1,
//! };
//! let mut graph = Graph::default();
//! let key = graph.add(Job::new(spec, |_| Ok(json!(6 * 7))));
//!
//! let runs = Runs::new(&out, "doc");
//! let claims = runs.open()?;
//! let plan = Plan::new(&graph, &runs);
//! let display = Display::lines(&plan, Box::new(std::io::sink()));
//! let environment = RunEnvironment { provenance: Value::Null, device: tarrl_tensor::cpu() };
//! let (environment, stop) = (&environment, &Stop::default());
//! let session = Session { runs: &runs, claims: &claims, environment, stop, display: &display };
//! let results = execute(&plan, &session).into_result()?;
//! assert_eq!(results[&key].output, 42);
//! # std::fs::remove_dir_all(&out)?;
//! # Ok::<(), anyhow::Error>(())
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod claim;
mod context;
mod display;
mod engine;
pub mod files;
mod folder;
mod forecast;
mod graph;
mod helpers;
mod key;
pub mod machine;
mod manifest;
pub mod message;
mod one;
mod plan;
mod run;
mod saved;
mod session;
mod spec;
mod status;
mod stop;

pub use claim::{Claim, ClaimRecord, Claims, Phase, Take, read_claim};
pub use context::{Finished, JobContext};
pub use display::Display;
pub use engine::{Failure, RunSummary, execute, execute_ready, execute_with_helpers};
pub use folder::{JobFolder, Runs, State};
pub use graph::{Graph, Job};
pub use helpers::Helpers;
pub use key::Key;
pub use manifest::{FileRecord, Manifest};
pub use one::{JobHeld, MissingInputs, execute_one};
pub use plan::{Plan, PlannedJob};
pub use saved::Saved;
pub use session::{RunEnvironment, Session};
pub use spec::{Spec, Stage, count};
pub use status::{GraphJob, JobState, JobStatus, read_graph, status_table, statuses, write_graph};
pub use stop::{Stop, Stopped};
