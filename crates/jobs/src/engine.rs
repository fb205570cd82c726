//! The job engine: runs what a plan leaves to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use crate::display::Ending;
use crate::files::cannot_write;
use crate::message::message;
use crate::run::run_claimed;
use crate::{
    Claim, ClaimRecord, Finished, Job, JobFolder, Key, Manifest, Phase, Plan, PlannedJob, Session, State,
    Stopped, Take, count,
};

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
    /// How many jobs were left to do.
    pub postponed: usize,
    /// Why they were.
    pub stopped: Option<Stopped>,
}

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

/// Runs what `plan` leaves to do, one job after the other; each job may use all threads itself. Other processes may run the
/// same plan in the same folder: each job is run by the one that claims it, and all wait until every job has ended.
///
/// The results of finished jobs are loaded. If a job fails or panics, the jobs that depend on it are skipped and all others
/// run. Once there is a reason to stop, the job that runs ends where it can resume, and no other begins.
pub fn execute(plan: &Plan<'_>, session: &Session<'_>) -> RunSummary {
    let mut execution = Execution {
        session,
        open: plan.jobs.iter().collect(),
        gone: BTreeMap::new(),
        announced: BTreeSet::new(),
        summary: RunSummary::default(),
    };
    execution.begin();
    let mut pause = SHORTEST_PAUSE;
    while !execution.open.is_empty() && execution.summary.stopped.is_none() {
        pause = if execution.pass() { SHORTEST_PAUSE } else { (2 * pause).min(LONGEST_PAUSE) };
        if !execution.open.is_empty() && pause > SHORTEST_PAUSE {
            std::thread::sleep(pause);
        }
    }
    execution.summary.postponed = execution.open.len();
    execution.summary
}

/// Pauses while other processes work on all that could be begun.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A run under way.
struct Execution<'a> {
    session: &'a Session<'a>,
    /// Jobs that have not ended, in their order.
    open: Vec<&'a PlannedJob<'a>>,
    /// Names of jobs that failed, and of those that need them.
    gone: BTreeMap<Key, String>,
    /// Jobs whose holder was named.
    announced: BTreeSet<Key>,
    summary: RunSummary,
}

/// What came of a look at a job.
enum Look {
    /// It has ended.
    Ended,
    /// It waits for another job, or another process works on it.
    Waits,
}

impl<'a> Execution<'a> {
    /// Takes over what is finished, and looks at the claims of the rest: a failure that is older is tried again.
    fn begin(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        open.retain(|planned| {
            let folder = self.session.runs.job(planned.job.key());
            match &planned.state {
                State::Done(manifest) => {
                    folder.discard(&manifest.scratch);
                    self.finish(planned.job, &folder, Manifest::clone(manifest));
                    false
                }
                _ => {
                    // What cannot be read is seen when it is claimed.
                    let _ = self.session.claims.last(&planned.job.key().to_string());
                    true
                }
            }
        });
        self.open = open;
    }

    /// Looks at every open job once, in their order, and runs what it can claim. Returns whether any ended.
    fn pass(&mut self) -> bool {
        let mut ended = false;
        let mut left = Vec::new();
        let open = std::mem::take(&mut self.open);
        for (i, planned) in open.iter().enumerate() {
            self.summary.stopped = self.summary.stopped.or_else(|| self.session.stop.reason());
            if self.summary.stopped.is_some() {
                left.extend(&open[i..]);
                break;
            }
            match self.look(planned) {
                Look::Ended => ended = true,
                Look::Waits => left.push(*planned),
            }
        }
        self.open = left;
        ended
    }

    fn look(&mut self, planned: &'a PlannedJob<'a>) -> Look {
        let (job, spec) = (planned.job, planned.job.spec());
        if let Some(missing) = spec.inputs.iter().find_map(|input| self.gone.get(input)) {
            self.session.display.end(spec, Ending::Blocked(missing));
            self.summary.blocked.push(job.label());
            self.gone.insert(job.key(), spec.name.clone());
            return Look::Ended;
        }
        if spec.inputs.iter().any(|input| !self.summary.finished.contains_key(input)) {
            return Look::Waits;
        }
        let folder = self.session.runs.job(job.key());
        if folder.has_manifest()
            && let State::Done(manifest) = folder.state()
        {
            self.session.display.end(spec, Ending::Elsewhere { seconds: manifest.seconds });
            self.finish(job, &folder, *manifest);
            return Look::Ended;
        }
        let claim = match self.session.claims.take(&job.key().to_string(), || folder.progress()) {
            Ok(Take::Claimed(claim)) => claim,
            Ok(Take::Held(holder)) => {
                if self.announced.insert(job.key()) {
                    let ClaimRecord { host, process, .. } = &*holder;
                    self.session
                        .display
                        .say(&format!("elsewhere: {}, by process {process} on {host}", job.label()));
                }
                return Look::Waits;
            }
            Ok(Take::Failed(record)) => {
                return self.fail(job, &folder, format!("{} (on {})", record.cause, record.host));
            }
            Err(error) => {
                let error = cannot_write(&self.session.runs.claims(), "--out DIR", error);
                return self.fail(job, &folder, message(&error));
            }
        };
        // Another process may have finished it just before.
        match folder.state() {
            State::Done(manifest) => {
                // The manifest says that it is done, whatever the claim does.
                let _ = claim.end(Phase::Done, "");
                self.session.display.end(spec, Ending::Elsewhere { seconds: manifest.seconds });
                self.finish(job, &folder, *manifest);
                Look::Ended
            }
            state => self.run(job, &state, &folder, claim),
        }
    }

    fn run(&mut self, job: &'a Job, state: &State, folder: &JobFolder, claim: Claim) -> Look {
        let finished = &self.summary.finished;
        match run_claimed(self.session, job, state, folder, finished, claim) {
            Ok(manifest) => {
                self.finish(job, folder, manifest);
                self.summary.ran += 1;
                Look::Ended
            }
            Err(error) => match error.downcast_ref() {
                Some(Stopped::Displaced) => Look::Waits,
                Some(reason) => {
                    self.summary.stopped = Some(*reason);
                    Look::Waits
                }
                None => self.fail(job, folder, message(&error)),
            },
        }
    }

    fn finish(&mut self, job: &Job, folder: &JobFolder, manifest: Manifest) {
        self.summary.finished.insert(job.key(), Finished::new(job.key(), folder, manifest));
    }

    fn fail(&mut self, job: &Job, folder: &JobFolder, cause: String) -> Look {
        self.session.display.end(job.spec(), Ending::Failed);
        self.gone.insert(job.key(), job.spec().name.clone());
        let folder = folder.path().to_path_buf();
        self.summary.failures.push(Failure { job: job.label(), folder, cause });
        Look::Ended
    }
}

impl RunSummary {
    /// Everything that is finished, or the message that ends the run.
    ///
    /// # Errors
    /// Fails if any job failed; the message names each of them with its folder and cause. [`Stopped`] if jobs were
    /// left to do and none failed.
    pub fn into_result(self) -> anyhow::Result<BTreeMap<Key, Finished>> {
        match (self.failures.is_empty(), self.stopped) {
            (true, None) => Ok(self.finished),
            (true, Some(reason)) => Err(reason.into()),
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
