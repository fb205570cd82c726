//! Studies as a library: profiles become a graph of resumable jobs, and the results become tables and figures.
//!
//! The jobs minimize `SSL loss + λ R` and then measure both sides of
//! `adversarial loss ≤ clean loss + C(h) · R(f)`; this crate decides which of them run, in what order, and where their
//! results are kept. The program `tarrl reproduce` is a thin layer over it; the same study from Rust:
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use tarrl_data::Catalog;
//! use tarrl_study::context::StudyContext;
//! use tarrl_study::jobs::{Display, Plan, RunEnvironment, Runs, execute};
//! use tarrl_study::profile::{Profile, Subset};
//! use tarrl_study::{machine, study::Study};
//!
//! // The smoke profile of this repository, reduced to one method and one table.
//! let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
//! let mut profile = Profile::read(&root.join("experiments/profiles"), "smoke")?;
//! profile.methods = vec!["simclr".into()];
//! profile.tables = vec!["T7".into()];
//! (profile.pairs, profile.sweep, profile.attack.autoattack) = (vec![], None, 0);
//! profile.subset = Subset { train: Some(200), test: Some(20) };
//!
//! let catalog = Catalog::new(root.join("datasets"), root.join("data"));
//! let context = Arc::new(StudyContext::new(profile, catalog, tarrl_tensor::cpu()));
//! let study = Study::new(&context, &root.join("experiments/methods"))?;
//! let kinds: Vec<_> = study.graph().jobs().iter().map(|job| job.spec().stage.kind).collect();
//! assert_eq!(kinds, ["data", "pretrain", "head", "attack"]);
//!
//! # let out = std::env::temp_dir().join(format!("tarrl-study-doc-{}", std::process::id()));
//! let runs = Runs::new(&out, "tiny");
//! let lock = runs.open()?; // one process for each folder
//! let plan = Plan::new(study.graph(), &runs); // jobs that are finished are skipped
//! let display = Display::lines(&plan, Box::new(std::io::sink()));
//! let provenance = machine::provenance_on(root, &context.device);
//! let environment = RunEnvironment { provenance, device: context.device.clone() };
//! let finished = execute(&plan, &runs, &lock, &environment, None, &display).into_result()?;
//!
//! let report = study.report(&finished, &environment.provenance)?;
//! assert_eq!(report.tables[0].rows[0].label, "SimCLR");
//! tarrl_report::write(&report, &runs.root().join("report"))?;
//! # std::fs::remove_dir_all(&out)?;
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! - A [`Profile`](profile::Profile) says how large a study is and which [`artifacts`] it draws.
//! - [`layout`] turns the methods of a profile into jobs of the [`stages`]; the engine in [`jobs`] runs them and can be used
//!   with any work.
//! - A [`Study`](study::Study) joins both: the jobs that its artifacts need, and the report of their results.

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
