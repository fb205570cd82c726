//! Run plans: every job of a graph with the state of its folder.

use std::fmt::Write as _;

use crate::forecast::{Forecast, spell_seconds};
use crate::{Graph, Job, Key, Runs, State, count};

/// Every job of a graph with what its folder says.
pub struct Plan<'a> {
    /// In the order in which they run.
    pub jobs: Vec<PlannedJob<'a>>,
}

/// A job and the state of its folder.
pub struct PlannedJob<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its state on disk.
    pub state: State,
}

impl<'a> Plan<'a> {
    /// Compares `graph` with the folders of `runs`, which are read and not touched.
    pub fn new(graph: &'a Graph, runs: &Runs) -> Self {
        let planned = |job: &'a Job| PlannedJob { job, state: runs.job(job.key()).state() };
        Self { jobs: graph.jobs().iter().map(planned).collect() }
    }

    /// A job of `graph` with its inputs alone.
    ///
    /// # Panics
    /// Panics if it is not in the graph.
    #[track_caller]
    pub fn of_inputs(graph: &'a Graph, runs: &Runs, key: Key) -> Self {
        let job = graph.jobs().iter().find(|job| job.key() == key);
        let inputs = &job.unwrap_or_else(|| panic!("of_inputs: {key} is not in the graph")).spec().inputs;
        let part = graph.jobs().iter().filter(|job| job.key() == key || inputs.contains(&job.key()));
        Self { jobs: part.map(|job| PlannedJob { job, state: runs.job(job.key()).state() }).collect() }
    }

    /// Jobs that have to run.
    pub fn open(&self) -> impl Iterator<Item = &PlannedJob<'a>> {
        self.jobs.iter().filter(|planned| !matches!(planned.state, State::Done(_)))
    }

    /// The forecast that follows from the finished jobs whose whole cost is known.
    pub(crate) fn forecast(&self) -> Forecast {
        let mut forecast = Forecast::default();
        for PlannedJob { job, state } in &self.jobs {
            match state {
                State::Done(manifest) if !manifest.resumed => {
                    forecast.observe(job.spec().stage.kind, job.spec().seconds, manifest.seconds);
                }
                _ => {}
            }
        }
        forecast
    }

    /// The plan as a table for people: key, kind, name, state and expected time of each job, and the sums.
    pub fn table(&self) -> String {
        let forecast = self.forecast();
        let heading = ["key", "kind", "name", "state", "time"].map(str::to_owned);
        let mut rows = vec![heading];
        let mut rest = 0.0;
        for PlannedJob { job, state } in &self.jobs {
            let spec = job.spec();
            let expected = forecast.seconds(spec.stage.kind, spec.seconds);
            let (state, time) = match state {
                State::Done(_) => ("done".to_owned(), String::new()),
                State::Stale(reason) => (format!("stale: {reason}"), spell_seconds(expected)),
                State::Interrupted => ("to do (interrupted)".to_owned(), spell_seconds(expected)),
                State::New => ("to do".to_owned(), spell_seconds(expected)),
            };
            if !time.is_empty() {
                rest += expected;
            }
            rows.push([job.key().short(), spec.stage.kind.to_owned(), spec.name.clone(), state, time]);
        }
        let mut text = aligned(&rows);
        let open = self.open().count();
        let done = self.jobs.len() - open;
        let _ = write!(text, "\n{}: {done} done, {open} to run", count(self.jobs.len()));
        if open > 0 {
            let _ = write!(text, ", about {}", spell_seconds(rest));
        }
        text.push('\n');
        text
    }
}

pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
