//! The job engine: runs what a plan leaves to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::display::Ending;
use crate::files::cannot_write;
use crate::helpers::{Helpers, Watched, watch};
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

/// Runs what `plan` leaves to do, one job after the other; each job may use all threads itself. Jobs on which the most work
/// depends begin first. Other processes may run the same plan in the same folder: each job is run by the one that claims it,
/// and all wait until every job has ended.
///
/// The results of finished jobs are loaded. If a job fails or panics, the jobs that depend on it are skipped and all others
/// run. Once there is a reason to stop, the job that runs ends where it can resume, and no other begins.
pub fn execute(plan: &Plan<'_>, session: &Session<'_>) -> RunSummary {
    Execution::new(plan, session, None).run_until(None)
}

/// As [`execute`], beside processes of the caller that it calls while there is work for them. The threads of the device are
/// shared with them, so that together they use as many as the device was opened with.
pub fn execute_with_helpers(plan: &Plan<'_>, session: &Session<'_>, helpers: &dyn Helpers) -> RunSummary {
    let watched = Watched::new(plan, session);
    let (working, end) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || watch(&watched, session, helpers, &end));
        let summary = Execution::new(plan, session, Some(helpers)).run_until(None);
        drop(working);
        summary
    })
}

/// As [`execute`], for a helper: it ends once there was nothing to begin for three seconds.
pub fn execute_ready(plan: &Plan<'_>, session: &Session<'_>) -> RunSummary {
    Execution::new(plan, session, None).run_until(Some(LONGEST_IDLENESS))
}

/// How long a helper waits for something to do.
const LONGEST_IDLENESS: Duration = Duration::from_secs(3);

/// Pauses while other processes work on all that could be begun.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A run under way.
struct Execution<'a> {
    plan: &'a Plan<'a>,
    session: &'a Session<'a>,
    helpers: Option<&'a dyn Helpers>,
    /// Whether any have been at work.
    helped: bool,
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
    fn new(plan: &'a Plan<'a>, session: &'a Session<'a>, helpers: Option<&'a dyn Helpers>) -> Self {
        let open = longest_first(plan);
        let (gone, announced, summary) = <(BTreeMap<_, _>, BTreeSet<_>, RunSummary)>::default();
        Self { plan, session, helpers, helped: false, open, gone, announced, summary }
    }

    /// Works until every job has ended, there is a reason to stop, or nothing could be begun for so long.
    fn run_until(mut self, idle: Option<Duration>) -> RunSummary {
        self.begin();
        let mut pause = SHORTEST_PAUSE;
        let mut worked = Instant::now();
        while !self.open.is_empty() && self.summary.stopped.is_none() {
            if self.pass() {
                (pause, worked) = (SHORTEST_PAUSE, Instant::now());
            } else {
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            if idle.is_some_and(|longest| worked.elapsed() > longest) {
                break;
            }
            if !self.open.is_empty() && pause > SHORTEST_PAUSE {
                std::thread::sleep(pause);
            }
        }
        self.summary.postponed = self.open.len();
        self.summary
    }

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
            self.session.display.end(job.key(), spec, Ending::Blocked(missing));
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
            self.end_elsewhere(job, manifest.seconds);
            self.finish(job, &folder, *manifest);
            return Look::Ended;
        }
        let claim = match self.session.claims.take(&job.key().to_string(), || folder.progress()) {
            Ok(Take::Claimed(claim)) => claim,
            Ok(Take::Held(holder)) => {
                let ClaimRecord { host, machine, process, .. } = &*holder;
                let helps = machine == self.session.claims.machine()
                    && self.helpers.is_some_and(|helpers| helpers.include(*process));
                if !helps && self.announced.insert(job.key()) {
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
                self.end_elsewhere(job, manifest.seconds);
                self.finish(job, &folder, *manifest);
                Look::Ended
            }
            state => self.run(job, &state, &folder, claim),
        }
    }

    fn run(&mut self, job: &'a Job, state: &State, folder: &JobFolder, claim: Claim) -> Look {
        self.call_helpers(job);
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

    /// Helpers for the jobs that could begin beside `job`. After a failure none is called: it would try the failed job again.
    fn call_helpers(&mut self, job: &Job) {
        let Some(helpers) = self.helpers.filter(|_| self.gone.is_empty()) else { return };
        let finished = &self.summary.finished;
        let ready = |other: &&Job| {
            other.key() != job.key()
                && !finished.contains_key(&other.key())
                && other.spec().inputs.iter().all(|input| finished.contains_key(input))
        };
        let ready: Vec<&Job> = self.plan.jobs.iter().map(|planned| planned.job).filter(ready).collect();
        helpers.call(ready.len(), ready.iter().map(|job| job.spec().seconds).sum());
        self.helped |= helpers.working() > 0;
    }

    /// Says that another process has finished `job`: a helper, if there are any.
    fn end_elsewhere(&self, job: &Job, seconds: f64) {
        let ending = if self.helped { Ending::Beside { seconds } } else { Ending::Elsewhere { seconds } };
        self.session.display.end(job.key(), job.spec(), ending);
    }

    fn finish(&mut self, job: &Job, folder: &JobFolder, manifest: Manifest) {
        self.summary.finished.insert(job.key(), Finished::new(job.key(), folder, manifest));
    }

    fn fail(&mut self, job: &Job, folder: &JobFolder, cause: String) -> Look {
        self.session.display.end(job.key(), job.spec(), Ending::Failed);
        self.gone.insert(job.key(), job.spec().name.clone());
        let folder = folder.path().to_path_buf();
        self.summary.failures.push(Failure { job: job.label(), folder, cause });
        Look::Ended
    }
}

/// In the order of the time from the beginning of a job to the end of the last one that needs it, the longest first: so that
/// at the end there is something to do for every process.
fn longest_first<'a>(plan: &'a Plan<'a>) -> Vec<&'a PlannedJob<'a>> {
    let mut after: BTreeMap<Key, f64> = BTreeMap::new();
    let mut path = BTreeMap::new();
    for job in plan.jobs.iter().rev().map(|planned| planned.job) {
        let seconds = job.spec().seconds + after.get(&job.key()).unwrap_or(&0.0);
        for &input in &job.spec().inputs {
            let longest = after.entry(input).or_default();
            *longest = longest.max(seconds);
        }
        path.insert(job.key(), seconds);
    }
    let mut jobs: Vec<_> = plan.jobs.iter().collect();
    jobs.sort_by(|a, b| path[&b.job.key()].total_cmp(&path[&a.job.key()]));
    jobs
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
