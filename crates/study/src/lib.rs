#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! - A [`Profile`](profile::Profile) says how large a study is and which [`artifacts`] it draws.
//! - [`layout`] turns the methods of a profile into jobs of the [`stages`]; the engine of [`tarrl_jobs`] runs them.
//! - A [`Study`](study::Study) joins both: the jobs that its artifacts need, and the report of their results.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod artifacts;
pub mod attack_state;
pub mod cluster;
pub mod context;
pub mod distance_charts;
pub mod experiments;
pub mod heads;
pub mod layout;
pub mod outcomes;
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
