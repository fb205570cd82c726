//! States of jobs: the graph in the run folder, and what its files and claims say of each job.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tarrl_data::read_at_most;
use tarrl_files::remove_abandoned;

use crate::files::{cannot_write, write_atomic};
use crate::forecast::{Forecast, spell_seconds};
use crate::plan::aligned;
use crate::{Claims, Graph, Key, Manifest, Phase, Runs, State, count};

/// A job without its code: what the run folder knows of the study.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GraphJob {
    /// Its key.
    pub key: Key,
    /// Its stage.
    pub kind: String,
    /// Its name, for people.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// The jobs whose results it uses.
    pub inputs: Vec<Key>,
    /// Estimated cost in seconds on two cores.
    pub estimate: f64,
}

/// What is known of a job.
#[derive(Clone, Debug, Serialize)]
pub struct JobStatus {
    /// The job.
    #[serde(flatten)]
    pub job: GraphJob,
    /// Its state.
    pub state: JobState,
    /// Expected seconds, by the measured times of finished jobs; of a finished job the measured ones.
    pub seconds: f64,
    /// How often it was begun.
    pub begun: u32,
    /// Who works on it, as `process on host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Why it failed, or why it is done again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// The state of a job, as programs read it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Finished.
    Done,
    /// A process works on it.
    Running,
    /// It can be begun, or resumed.
    Ready,
    /// It needs a job that is not finished.
    Waiting,
    /// Its last try ended with an error; it is tried again when somebody begins it.
    Failed,
}

/// The file with the graph, in the run folder.
const FILE: &str = "graph.json";

/// The longest graph that is read.
const MOST_BYTES: u64 = 1 << 28;

impl GraphJob {
    /// The jobs of a graph, in its order.
    pub fn all(graph: &Graph) -> Vec<Self> {
        let job = |job: &crate::Job| {
            let spec = job.spec();
            Self {
                key: job.key(),
                kind: spec.stage.kind.to_owned(),
                name: spec.name.clone(),
                seed: spec.seed,
                inputs: spec.inputs.clone(),
                estimate: spec.seconds,
            }
        };
        graph.jobs().iter().map(job).collect()
    }
}

/// Writes the graph into the run folder, which exists; from then on its progress can be read from the folder alone.
///
/// # Errors
/// Fails if it cannot be written.
pub fn write_graph(runs: &Runs, graph: &Graph) -> anyhow::Result<()> {
    let path = runs.root().join(FILE);
    let text = serde_json::to_vec_pretty(&GraphJob::all(graph))?;
    // Many processes of one study begin at once, with the same graph.
    if read_at_most(&path, MOST_BYTES).is_ok_and(|old| old == text) {
        return remove_abandoned(runs.root(), ".graph.json")
            .map_err(|error| cannot_write(&path, "--out DIR", error));
    }
    write_atomic(&path, &text).map_err(|error| cannot_write(&path, "--out DIR", error))
}

/// Reads the graph in the run folder `root`.
///
/// # Errors
/// Returns the reason, with the file, why there is none.
pub fn read_graph(root: &Path) -> Result<Vec<GraphJob>, String> {
    let path = root.join(FILE);
    let name = path.display();
    let text = read_at_most(&path, MOST_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no study in {}; begin one, or give its --out DIR", root.display())
        }
        _ => format!("{name} cannot be read: {error}"),
    })?;
    let jobs: Vec<GraphJob> = serde_json::from_slice(&text)
        .map_err(|error| format!("{name} is damaged ({error}); run the study again to write it anew"))?;
    let mut known = BTreeSet::new();
    for job in &jobs {
        let before = job.inputs.iter().all(|input| known.contains(input));
        if !before || !known.insert(job.key) || !job.estimate.is_finite() {
            return Err(format!(
                "{name} is damaged (job {} is no part of a graph); run the study again to write it anew",
                job.key
            ));
        }
    }
    Ok(jobs)
}

/// The states of the jobs of a graph in `runs`, in its order. With `verify` the files of finished jobs are compared with
/// their checksums, without it the presence of their manifests counts.
///
/// # Errors
/// Returns the system's error if a claim cannot be read.
pub fn statuses(jobs: &[GraphJob], runs: &Runs, claims: &Claims, verify: bool) -> io::Result<Vec<JobStatus>> {
    let mut done: BTreeMap<Key, f64> = BTreeMap::new();
    let mut forecast = Forecast::default();
    let mut found = Vec::with_capacity(jobs.len());
    for job in jobs {
        let folder = runs.job(job.key);
        let state = if verify || !folder.has_manifest() { folder.state() } else { folder.state_unverified() };
        let mut cause = None;
        match state {
            State::Done(manifest) => {
                let Manifest { seconds, resumed, .. } = *manifest;
                done.insert(job.key, seconds);
                if !resumed {
                    forecast.observe(&job.kind, job.estimate, seconds);
                }
            }
            State::Stale(reason) => cause = Some(reason),
            State::Interrupted | State::New => {}
        }
        found.push(cause);
    }
    let status = |(job, mut cause): (&GraphJob, Option<String>)| {
        let last = claims.last(&job.key.to_string())?;
        let begun = last.as_ref().map_or(0, |(number, ..)| number + 1);
        let mut holder = None;
        let state = match (done.get(&job.key), last) {
            (Some(_), _) => JobState::Done,
            (None, Some((_, record, true))) if record.phase == Phase::Running => {
                holder = Some(format!("{} on {}", record.process, record.host));
                JobState::Running
            }
            (None, Some((_, record, _))) if record.phase == Phase::Failed => {
                cause = Some(record.cause);
                JobState::Failed
            }
            _ if job.inputs.iter().all(|input| done.contains_key(input)) => JobState::Ready,
            _ => JobState::Waiting,
        };
        let expected = || forecast.seconds(&job.kind, job.estimate);
        let seconds = done.get(&job.key).copied().unwrap_or_else(expected);
        Ok(JobStatus { job: job.clone(), state, seconds, begun, holder, cause })
    };
    jobs.iter().zip(found).map(status).collect()
}

/// The states as a table for people, with the sums below.
pub fn status_table(statuses: &[JobStatus]) -> String {
    let mut rows = vec![["key", "kind", "name", "state", "time"].map(str::to_owned)];
    let mut sums: BTreeMap<JobState, usize> = BTreeMap::new();
    let mut rest = 0.0;
    for JobStatus { job, state, seconds, holder, cause, begun } in statuses {
        *sums.entry(*state).or_default() += 1;
        let mut text = state.word().to_owned();
        for more in [holder, cause].into_iter().flatten() {
            // A cause may have several lines.
            let _ = write!(text, ": {}", more.lines().next().unwrap_or_default());
        }
        if *begun > 1 {
            let _ = write!(text, " (begun {begun} times)");
        }
        if *state != JobState::Done {
            rest += seconds;
        }
        rows.push([job.key.short(), job.kind.clone(), job.name.clone(), text, spell_seconds(*seconds)]);
    }
    let mut text = aligned(&rows);
    let sums: Vec<String> = sums.iter().map(|(state, n)| format!("{n} {}", state.word())).collect();
    let _ = write!(text, "\n{}: {}", count(statuses.len()), sums.join(", "));
    if rest > 0.0 {
        let _ = write!(text, "; about {} of computing left", spell_seconds(rest));
    }
    text.push('\n');
    text
}

impl JobState {
    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}
