//! A study as a library: it reads the experiment files, turns them into a graph of jobs, runs those that are new, and
//! draws tables and figures from their results.
//!
//! The jobs minimize `SSL loss + λ R` and then measure both sides of
//! `adversarial loss ≤ clean loss + C(h) · R(f)`; this crate only decides which of them run, in what order, and where
//! their results stay. The engine in [`jobs`] can be used with any work:
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
//! let setting = RunEnvironment { provenance: Value::Null, device: tarrl_tensor::cpu() };
//! let results = execute(&plan, &runs, &lock, &setting, None, &display).into_result()?;
//! assert_eq!(results[&key].output, 42);
//! # std::fs::remove_dir_all(&out)?;
//! # Ok::<(), anyhow::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod artifacts;
pub mod context;
pub mod experiments;
pub mod jobs;
pub mod layout;
pub mod machine;
pub mod message;
pub mod pixels;
pub mod profile;
pub mod published;
pub mod stages;
pub mod study;

/// The root of the repository, for tests that read its experiment files.
#[cfg(test)]
fn repository() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
