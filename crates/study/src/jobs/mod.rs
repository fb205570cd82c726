//! The job engine: a study is a graph of jobs, each with a key that is a hash of everything that determines it.
//!
//! A finished job is recognized by its key and skipped; one that was interrupted resumes from its own
//! checkpoint; if one fails, only the jobs that depend on it are skipped. The engine does not know what jobs compute.
//!
//! ```
//! use serde_json::{Value, json};
//! use tarrl_study::jobs::{Display, Graph, Job, Plan, Runs, RunEnvironment, Spec, Stage, execute};
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
//! let lock = runs.open()?;
//! let plan = Plan::new(&graph, &runs);
//! let display = Display::lines(&plan, Box::new(std::io::sink()));
//! let environment = RunEnvironment { provenance: Value::Null, device: tarrl_tensor::cpu() };
//! let results = execute(&plan, &runs, &lock, &environment, None, &display).into_result()?;
//! assert_eq!(results[&key].output, 42);
//! # std::fs::remove_dir_all(&out)?;
//! # Ok::<(), anyhow::Error>(())
//! ```

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
mod spec;

pub use context::{Finished, JobContext};
pub use display::Display;
pub use engine::{Failure, RunEnvironment, RunSummary, TimeIsUp, execute};
pub use folder::{JobFolder, Runs, State};
pub use graph::{Graph, Job};
pub use key::Key;
pub use lock::{Lock, LockHeld};
pub use manifest::{FileRecord, Manifest};
pub use plan::{Plan, PlannedJob};
pub use spec::{Spec, Stage, count};
