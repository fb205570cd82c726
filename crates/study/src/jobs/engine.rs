//! The job engine: runs what a plan leaves to do.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use serde_json::Value;
use tarrl_tensor::Device;

use super::display::{Display, Ending};
use super::{
    FileRecord, Finished, Job, JobContext, JobFolder, Key, Lock, Manifest, Plan, PlannedJob, Runs, State,
    count,
};
use crate::machine;
use crate::message::message;

/// The summary of a run.
#[derive(Debug, Default)]
pub struct RunSummary {
    /// Results of all finished jobs, those of earlier runs included.
    pub finished: BTreeMap<Key, Finished>,
    /// How many jobs ran to their end this time.
    pub ran: usize,
    /// Jobs that failed.
    pub failures: Vec<Failure>,
    /// Names of the jobs that could not run because another failed.
    pub blocked: Vec<String>,
    /// How many jobs the time limit left to do.
    pub postponed: usize,
}

/// Provenance and device of a run, recorded in its manifests.
#[derive(Debug)]
pub struct RunEnvironment {
    /// Versions and machine.
    pub provenance: Value,
    /// The device whose memory is measured.
    pub device: Device,
}

/// The error of a job that stopped at the time limit; it resumes from its checkpoint when it runs again.
#[derive(Debug)]
pub struct TimeIsUp;

impl fmt::Display for TimeIsUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the time limit is reached; what is finished is kept, run the same command again to go on",
        )
    }
}

impl std::error::Error for TimeIsUp {}

/// A job that failed.
#[derive(Debug)]
pub struct Failure {
    /// Kind and name of the job.
    pub job: String,
    /// Its folder, with the log and whatever it had written.
    pub folder: PathBuf,
    /// What went wrong.
    pub cause: String,
}

/// Runs what `plan` leaves to do, one job after the other; each job may use all threads itself.
///
/// The results of finished jobs are loaded. If a job fails or panics, the jobs that depend on it are skipped and all others
/// run. No job begins after the `deadline`. `environment` is written into every manifest. The lock proves that no
/// other process writes to `runs`.
pub fn execute(
    plan: &Plan<'_>,
    runs: &Runs,
    _lock: &Lock,
    environment: &RunEnvironment,
    deadline: Option<Instant>,
    display: &Display,
) -> RunSummary {
    let mut summary = RunSummary::default();
    for PlannedJob { job, state } in &plan.jobs {
        let (spec, folder) = (job.spec(), runs.job(job.key()));
        let finished = |manifest: Manifest| Finished {
            key: job.key(),
            peak_bytes: manifest.peak_device_bytes.or(manifest.peak_rss_bytes),
            output: manifest.output,
            folder: folder.path().to_path_buf(),
        };
        if let State::Done(manifest) = state {
            folder.discard(&manifest.scratch);
            summary.finished.insert(job.key(), finished(Manifest::clone(manifest)));
            continue;
        }
        if summary.postponed > 0 || deadline.is_some_and(|moment| Instant::now() >= moment) {
            summary.postponed += 1;
            continue;
        }
        if let Some(missing) = spec.inputs.iter().find(|input| !summary.finished.contains_key(input)) {
            let missing =
                plan.jobs.iter().find(|p| p.job.key() == *missing).map_or("", |p| &p.job.spec().name);
            display.end(spec, Ending::Blocked(missing));
            summary.blocked.push(label(job));
            continue;
        }
        match state {
            State::Stale(reason) => display.say(&format!("again: {}, because {reason}", label(job))),
            State::Interrupted => display.say(&format!("resumed: {}", label(job))),
            State::Done(_) | State::New => {}
        }
        display.begin(spec);
        match run_job(job, state, &folder, &summary.finished, environment, display) {
            Ok(manifest) => {
                display.end(spec, Ending::Done { seconds: manifest.seconds, resumed: manifest.resumed });
                summary.finished.insert(job.key(), finished(manifest));
                summary.ran += 1;
            }
            Err(error) if error.is::<TimeIsUp>() => {
                display.end(spec, Ending::Paused);
                summary.postponed += 1;
            }
            Err(error) => {
                display.end(spec, Ending::Failed);
                let cause = message(&error);
                summary.failures.push(Failure {
                    job: label(job),
                    folder: folder.path().to_path_buf(),
                    cause,
                });
            }
        }
    }
    summary
}

impl RunSummary {
    /// Everything that is finished, or the message that ends the run.
    ///
    /// # Errors
    /// Fails if any job failed; the message names each of them with its folder and cause. [`TimeIsUp`] if the time limit
    /// left jobs to do and none failed.
    pub fn into_result(self) -> anyhow::Result<BTreeMap<Key, Finished>> {
        match (self.failures.is_empty(), self.postponed) {
            (true, 0) => Ok(self.finished),
            (true, _) => Err(TimeIsUp.into()),
            (false, _) => Err(anyhow!("{self}")),
        }
    }
}

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Failure { job, folder, cause } in &self.failures {
            writeln!(f, "job failed: {job}\n  cause:  {cause}\n  folder: {}", folder.display())?;
        }
        if !self.blocked.is_empty() {
            writeln!(f, "not run, because they need it: {}", self.blocked.join("; "))?;
        }
        write!(
            f,
            "what is finished is kept ({}); run the same command again to go on",
            count(self.finished.len())
        )
    }
}

fn label(job: &Job) -> String {
    format!("{} {}", job.spec().stage.kind, job.spec().name)
}

fn run_job(
    job: &Job,
    state: &State,
    folder: &JobFolder,
    finished: &BTreeMap<Key, Finished>,
    environment: &RunEnvironment,
    display: &Display,
) -> anyhow::Result<Manifest> {
    let (spec, resumed) = (job.spec(), *state == State::Interrupted);
    folder.prepare(spec, state)?;
    let inputs = spec.inputs.iter().map(|input| &finished[input]).collect();
    let context = JobContext::new(folder, spec.seed, inputs, display).context("cannot open the log")?;
    context.log(if resumed { "resumed" } else { "started" });
    machine::reset_peak_rss();
    environment.device.reset_peak_memory();
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| job.run(&context)))
        .unwrap_or_else(|panic| Err(anyhow!("panicked: {}", panic_message(&*panic))))
        .and_then(|output| {
            let manifest = Manifest {
                key: job.key(),
                name: spec.name.clone(),
                kind: spec.stage.kind.to_owned(),
                output,
                files: record_files(&context)?,
                scratch: context.scratch_names(),
                seconds: started.elapsed().as_secs_f64(),
                resumed,
                peak_rss_bytes: machine::peak_rss(),
                peak_device_bytes: environment.device.peak_memory(),
                finished_unix: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |since| since.as_secs()),
                provenance: environment.provenance.clone(),
            };
            manifest.write(folder.path()).with_context(|| format!("cannot write {}", Manifest::FILE))?;
            folder.discard(&manifest.scratch);
            Ok(manifest)
        });
    match &result {
        Ok(_) => context.log("finished"),
        Err(error) => context.log(&format!("failed: {}", message(error))),
    }
    result
}

/// The files that the job promised, and its metrics if it kept any.
fn record_files(context: &JobContext<'_>) -> anyhow::Result<Vec<FileRecord>> {
    const METRICS: &str = "metrics.jsonl";
    let mut names = context.outputs();
    if !names.iter().any(|name| name == METRICS) && fs::exists(context.folder().join(METRICS))? {
        names.push(METRICS.to_owned());
    }
    let record = |name: &String| {
        FileRecord::take(context.folder(), name)
            .with_context(|| format!("the output file {name} cannot be read"))
    };
    names.iter().map(record).collect()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
