//! Sessions: what a run of jobs works with.

use serde_json::Value;
use tarrl_tensor::Device;

use crate::{Claims, Display, Runs, Stop};

/// What a run of jobs works with.
pub struct Session<'a> {
    /// Where the jobs are on disk.
    pub runs: &'a Runs,
    /// The claims of that folder.
    pub claims: &'a Claims,
    /// What is written into every manifest.
    pub environment: &'a RunEnvironment,
    /// Asked whether to end early.
    pub stop: &'a Stop,
    /// Where progress is shown.
    pub display: &'a Display,
}

/// Provenance and device of a run, recorded in its manifests.
#[derive(Debug)]
pub struct RunEnvironment {
    /// Versions and machine.
    pub provenance: Value,
    /// The device whose memory is measured.
    pub device: Device,
}
