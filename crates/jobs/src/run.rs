//! Running one job: its folder, its context, its manifest and its claim.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};

use crate::display::{Display, Ending};
use crate::folder::METRICS;
use crate::machine;
use crate::message::message;
use crate::{
    Claim, FileRecord, Finished, Job, JobContext, JobFolder, Key, Manifest, Phase, RunEnvironment, Session,
    State, Stop, Stopped,
};

/// Runs a job that is ours, and ends the claim.
pub(crate) fn run_claimed(
    session: &Session<'_>,
    job: &Job,
    state: &State,
    folder: &JobFolder,
    finished: &BTreeMap<Key, Finished>,
    claim: Claim,
) -> anyhow::Result<Manifest> {
    let Session { environment, stop, display, .. } = *session;
    match state {
        State::Stale(reason) => display.say(&format!("again: {}, because {reason}", job.label())),
        State::Interrupted => display.say(&format!("resumed: {}", job.label())),
        State::Done(_) | State::New => {}
    }
    let spec = job.spec();
    display.begin(job.key(), spec);
    let stop = stop.while_held(claim.question());
    let result = run_job(job, state, folder, finished, environment, &stop, display);
    // What a claim says beyond the end of its heartbeat helps others; without it they find out by themselves.
    let _ = match &result {
        Ok(manifest) => {
            display.end(
                job.key(),
                spec,
                Ending::Done { seconds: manifest.seconds, resumed: manifest.resumed },
            );
            claim.end(Phase::Done, "")
        }
        Err(error) if error.is::<Stopped>() => {
            display.end(job.key(), spec, Ending::Paused);
            claim.end(Phase::Stopped, "")
        }
        Err(error) => claim.end(Phase::Failed, &message(error)),
    };
    result
}

fn run_job(
    job: &Job,
    state: &State,
    folder: &JobFolder,
    finished: &BTreeMap<Key, Finished>,
    environment: &RunEnvironment,
    stop: &Stop,
    display: &Display,
) -> anyhow::Result<Manifest> {
    let (spec, resumed) = (job.spec(), *state == State::Interrupted);
    folder.prepare(spec, state)?;
    let inputs = spec.inputs.iter().map(|input| &finished[input]).collect();
    let context = JobContext::new(folder, (job.key(), job.spec().seed), inputs, stop, display)
        .context("cannot open the log")?;
    context.log(if resumed { "resumed" } else { "started" });
    machine::reset_peak_rss();
    environment.device.reset_peak_memory();
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| job.run(&context)))
        .unwrap_or_else(|panic| Err(unwound(&*panic)))
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
            if stop.reason() == Some(Stopped::Displaced) {
                return Err(Stopped::Displaced.into());
            }
            let first = manifest
                .write_first(folder.path())
                .with_context(|| format!("cannot write {}", Manifest::FILE))?;
            let manifest = match (first, folder.state()) {
                (true, _) => manifest,
                // That of another process, whose bits are the same.
                (false, State::Done(first)) => *first,
                (false, _) => anyhow::bail!("cannot write {}, because it is there", Manifest::FILE),
            };
            folder.discard(&manifest.scratch);
            Ok(manifest)
        });
    match &result {
        Ok(_) => context.log("finished"),
        Err(error) => context.log(&format!(
            "{}: {}",
            if error.is::<Stopped>() { "paused" } else { "failed" },
            message(error)
        )),
    }
    result
}

/// The files that the job promised, and its metrics if it kept any.
fn record_files(context: &JobContext<'_>) -> anyhow::Result<Vec<FileRecord>> {
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

/// The error of a job that left by unwinding: the reason to stop, or a panic.
fn unwound(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    match panic.downcast_ref::<Stopped>() {
        Some(reason) => (*reason).into(),
        None => anyhow!("panicked: {}", panic_message(panic)),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
