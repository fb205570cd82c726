//! Single jobs: what an engine on a cluster runs, one process for each.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context;

use crate::engine::LONGEST_PAUSE;
use crate::run::run_claimed;
use crate::{ClaimRecord, Finished, Key, Manifest, Phase, Plan, Session, State, Take};

/// Runs one job of `plan`, whose inputs are finished.
///
/// # Errors
/// [`MissingInputs`] if they are not, [`JobHeld`] if another process runs it, [`Stopped`](crate::Stopped) if there was a reason to end early,
/// and the error of the job. A job that was begun more than `most` times without any progress is not begun again.
pub fn execute_one(plan: &Plan<'_>, session: &Session<'_>, key: Key, most: u32) -> anyhow::Result<()> {
    let Session { runs, claims, stop, .. } = *session;
    let at = |key: Key| plan.jobs.iter().find(|planned| planned.job.key() == key);
    let planned = at(key).with_context(|| format!("the study has no job {key}"))?;
    let folder = runs.job(key);
    if matches!(folder.state(), State::Done(_)) {
        return Ok(());
    }
    let mut finished = BTreeMap::new();
    let mut missing = Vec::new();
    for &input in &planned.job.spec().inputs {
        let folder = runs.job(input);
        match at(input).map(|planned| &planned.state) {
            Some(State::Done(manifest)) => {
                finished.insert(input, Finished::new(input, &folder, Manifest::clone(manifest)));
            }
            _ => missing.push((input, at(input).map_or(String::new(), |planned| planned.job.label()))),
        }
    }
    if !missing.is_empty() {
        return Err(MissingInputs { job: planned.job.label(), missing }.into());
    }
    let mut alive = None;
    loop {
        stop.check()?;
        match claims.take(&key.to_string(), || folder.progress())? {
            Take::Claimed(claim) => {
                let state = folder.state();
                if matches!(state, State::Done(_)) {
                    claim.end(Phase::Done, "")?;
                    return Ok(());
                }
                let fruitless = claim.record().fruitless;
                if fruitless >= most {
                    let cause = format!("begun {} times without any progress", fruitless + 1);
                    claim.end(Phase::Failed, &cause)?;
                    anyhow::bail!("{}: {cause}; see {}", planned.job.label(), folder.path().display());
                }
                return run_claimed(session, planned.job, &state, &folder, &finished, claim).map(drop);
            }
            // Whether it lives is seen at its next heartbeat.
            Take::Held(holder) if alive.is_none_or(|beat| beat == holder.beat) => {
                let here = holder.machine == claims.machine();
                alive = Some(holder.beat);
                if here {
                    return Err(JobHeld { job: planned.job.label(), holder }.into());
                }
            }
            Take::Held(holder) => return Err(JobHeld { job: planned.job.label(), holder }.into()),
            Take::Failed(holder) => {
                anyhow::bail!("{} failed elsewhere: {}", planned.job.label(), holder.cause)
            }
        }
        if matches!(folder.state(), State::Done(_)) {
            return Ok(());
        }
        std::thread::sleep(LONGEST_PAUSE);
    }
}

/// The error of a job whose inputs are not finished.
#[derive(Debug)]
pub struct MissingInputs {
    job: String,
    missing: Vec<(Key, String)>,
}

impl fmt::Display for MissingInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs what is not finished: ", self.job)?;
        for (i, (key, label)) in self.missing.iter().enumerate() {
            write!(f, "{}{label} ({key})", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("; run these first")
    }
}

impl std::error::Error for MissingInputs {}

/// The error of a job that another process runs.
#[derive(Debug)]
pub struct JobHeld {
    /// What it would do.
    pub job: String,
    /// Who works on it.
    pub holder: Box<ClaimRecord>,
}

impl fmt::Display for JobHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClaimRecord { host, process, .. } = &*self.holder;
        write!(f, "process {process} on {host} works on {}; wait for it, or stop it", self.job)
    }
}

impl std::error::Error for JobHeld {}
