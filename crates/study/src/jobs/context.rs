//! Job contexts: folder, inputs, progress and log of a running job.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{JobFolder, Key};

/// The result of a finished job.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Address of the job.
    pub key: Key,
    /// What it returned.
    pub output: Value,
    /// Most memory that it took, of the device or of the process.
    pub peak_bytes: Option<u64>,
    /// The folder with its files.
    pub folder: PathBuf,
}

impl Finished {
    /// The output as a type.
    ///
    /// # Errors
    /// Fails if the output has another form, which means that the stage's version was not raised.
    pub fn parse<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        T::deserialize(&self.output)
            .with_context(|| format!("the output of job {} has an unexpected form", self.key))
    }
}

/// Where the progress of a running job is shown.
pub(super) trait Progress {
    /// Shows that `done` of `total` steps are finished.
    fn progress(&self, done: u64, total: u64, message: &str);
}

/// Handed to a job while it runs: its folder, its inputs, and a way to report its progress.
pub struct JobContext<'a> {
    folder: &'a Path,
    seed: u64,
    inputs: Vec<&'a Finished>,
    display: &'a dyn Progress,
    log: Mutex<File>,
    started: Instant,
    outputs: Mutex<BTreeSet<String>>,
    scratch: Mutex<BTreeSet<String>>,
}

impl<'a> JobContext<'a> {
    pub(super) fn new(
        folder: &'a JobFolder,
        seed: u64,
        inputs: Vec<&'a Finished>,
        display: &'a dyn Progress,
    ) -> std::io::Result<Self> {
        let log = OpenOptions::new().append(true).create(true).open(folder.path().join(JobFolder::LOG))?;
        Ok(Self {
            folder: folder.path(),
            seed,
            inputs,
            display,
            log: Mutex::new(log),
            started: Instant::now(),
            outputs: Mutex::default(),
            scratch: Mutex::default(),
        })
    }

    /// Seed of the job.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The job's own folder. Paths of files that belong to the result come from [`output`](Self::output).
    pub fn folder(&self) -> &Path {
        self.folder
    }

    /// The result of input `i`, in the order of the job's `inputs`.
    ///
    /// # Panics
    /// Panics if the job has no such input.
    #[track_caller]
    pub fn input(&self, i: usize) -> &Finished {
        assert!(i < self.inputs.len(), "input: asked for input {i} of {}", self.inputs.len());
        self.inputs[i]
    }

    /// Path of an output file that the job promises to write; it is checksummed when the job ends, and the job
    /// counts as finished only as long as the file stays as it was.
    pub fn output(&self, name: &str) -> PathBuf {
        lock(&self.outputs).insert(name.to_owned());
        self.folder.join(name)
    }

    /// Path of a file that only serves to resume; it outlives an interruption and is removed when the job ends well.
    pub fn scratch(&self, name: &str) -> PathBuf {
        lock(&self.scratch).insert(name.to_owned());
        self.folder.join(name)
    }

    /// Shows that `done` of `total` steps are finished.
    pub fn progress(&self, done: u64, total: u64, message: &str) {
        self.display.progress(done, total, message);
    }

    /// Adds a line to the job's `log.txt`. A full disk does not stop the job for the sake of its log.
    pub fn log(&self, line: &str) {
        let _ = writeln!(lock(&self.log), "{:9.2} s  {line}", self.started.elapsed().as_secs_f64());
    }

    pub(super) fn outputs(&self) -> Vec<String> {
        lock(&self.outputs).iter().cloned().collect()
    }

    /// Names of the files that only served to resume.
    pub(super) fn scratch_names(&self) -> Vec<String> {
        let outputs = lock(&self.outputs);
        lock(&self.scratch).iter().filter(|name| !outputs.contains(*name)).cloned().collect()
    }
}

/// A panic of the job cannot leave these values inconsistent, so a poisoned lock is used as it is.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
