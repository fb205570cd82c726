//! Job contexts: folder, inputs, progress and log of a running job.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{JobFolder, Key, Manifest, Saved, Stop};

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
    pub(crate) fn new(key: Key, folder: &JobFolder, manifest: Manifest) -> Self {
        Self {
            key,
            peak_bytes: manifest.peak_device_bytes.or(manifest.peak_rss_bytes),
            output: manifest.output,
            folder: folder.path().to_path_buf(),
        }
    }

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
pub(crate) trait Progress {
    /// Shows that `done` of `total` steps are finished.
    fn progress(&self, done: u64, total: u64, message: &str);
}

/// Handed to a job while it runs: its folder, its inputs, and a way to report its progress.
pub struct JobContext<'a> {
    folder: &'a Path,
    key: Key,
    seed: u64,
    inputs: Vec<&'a Finished>,
    stop: &'a Stop,
    display: &'a dyn Progress,
    log: Mutex<File>,
    started: Instant,
    outputs: Mutex<BTreeSet<String>>,
    scratch: Mutex<BTreeSet<String>>,
}

impl<'a> JobContext<'a> {
    pub(crate) fn new(
        folder: &'a JobFolder,
        (key, seed): (Key, u64),
        inputs: Vec<&'a Finished>,
        stop: &'a Stop,
        display: &'a dyn Progress,
    ) -> std::io::Result<Self> {
        let log = OpenOptions::new().append(true).create(true).open(folder.path().join(JobFolder::LOG))?;
        Ok(Self {
            folder: folder.path(),
            key,
            seed,
            inputs,
            stop,
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

    /// What an earlier session of the job stored under `name` with [`save`](Self::save). Nothing if there is none, or if it
    /// is damaged or of another job: the job then begins again.
    pub fn saved<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let found = Saved::read(&self.scratch(name), self.key);
        found.unwrap_or_else(|reason| {
            self.log(&format!("{name} is of no use: {reason}"));
            None
        })
    }

    /// Stores the progress of the job under `name`, for a later session to resume from.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn save<T: Serialize>(&self, name: &str, progress: &T) -> anyhow::Result<()> {
        let path = self.scratch(name);
        Saved::write(&path, self.key, progress).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Why and whether the job has to end. It ends with the error of [`Stop::check`], after it has saved what it can.
    pub fn stop(&self) -> &Stop {
        self.stop
    }

    /// Shows that `done` of `total` steps are finished.
    pub fn progress(&self, done: u64, total: u64, message: &str) {
        self.display.progress(done, total, message);
    }

    /// Adds a line to the job's `log.txt`. A full disk does not stop the job for the sake of its log.
    pub fn log(&self, line: &str) {
        let _ = writeln!(lock(&self.log), "{:9.2} s  {line}", self.started.elapsed().as_secs_f64());
    }

    pub(crate) fn outputs(&self) -> Vec<String> {
        lock(&self.outputs).iter().cloned().collect()
    }

    /// Names of the files that only served to resume.
    pub(crate) fn scratch_names(&self) -> Vec<String> {
        let outputs = lock(&self.outputs);
        lock(&self.scratch).iter().filter(|name| !outputs.contains(*name)).cloned().collect()
    }
}

/// A panic of the job cannot leave these values inconsistent, so a poisoned lock is used as it is.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
