//! Job specifications: what determines a job, and the stage behind it.

use serde_json::{Value, json};

use crate::Key;

/// A kind of job and the version of the code behind it.
///
/// Raise `version` whenever the stage's code changes what it computes: the keys of all its jobs, and of all jobs
/// that depend on them, change with it, so that no outdated result is reused.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// One word, for example `pretrain`.
    pub kind: &'static str,
    /// Counts the changes of meaning.
    pub version: u32,
}

/// Everything about a job except the code that runs it.
#[derive(Clone, Debug)]
pub struct Spec {
    /// For people; not part of the key, so that two tables may call one job by different names.
    pub name: String,
    /// The code that computes it.
    pub stage: Stage,
    /// Seed of all its randomness.
    pub seed: u64,
    /// Everything else that determines the result: the stage's own options, and the checksum of data that it reads.
    pub config: Value,
    /// Jobs whose results it uses, in the order in which the code asks for them.
    pub inputs: Vec<Key>,
    /// Estimated cost in seconds on two cores, for the plan and the first guess of the time left.
    pub seconds: f64,
}

impl Spec {
    /// The value that the key is the hash of: stage, version, seed, config and the keys of the inputs.
    pub fn identity(&self) -> Value {
        json!({
            "kind": self.stage.kind,
            "version": self.stage.version,
            "seed": self.seed,
            "config": self.config,
            "inputs": self.inputs,
        })
    }
}

/// `1 job`, `2 jobs`.
pub fn count(jobs: usize) -> String {
    format!("{jobs} {}", if jobs == 1 { "job" } else { "jobs" })
}
