//! Progress display: live bars on a terminal, one line per finished job elsewhere.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::context::Progress;
use crate::forecast::{Forecast, spell_seconds};
use crate::{Key, Plan, Spec};

/// Two live bars on a terminal (the whole run with the time left, and the running job), or one line per finished job
/// elsewhere.
pub struct Display {
    view: View,
    tally: Mutex<Tally>,
}

enum View {
    Bars { all: MultiProgress, overall: ProgressBar, job: ProgressBar },
    Lines(Mutex<Box<dyn Write + Send>>),
}

/// The progress of the run.
struct Tally {
    forecast: Forecast,
    /// The jobs that have not ended, with kind and estimate.
    open: BTreeMap<Key, (&'static str, f64)>,
    /// The sum of their estimates, of each kind: many jobs end, and not each of them can ask all others.
    estimates: BTreeMap<&'static str, f64>,
    /// The one that runs in this process.
    running: Option<Key>,
    /// Processes that work.
    processes: usize,
    jobs: usize,
    estimate: f64,
    started: Instant,
    fraction: f64,
}

/// Parts of the overall bar.
const UNITS: u64 = 10_000;

impl Display {
    /// Bars if standard error is a terminal that can draw them, and lines on standard error if not.
    pub fn stderr(plan: &Plan<'_>) -> Self {
        let Some(view) = bars(MultiProgress::new()) else {
            return Self::lines(plan, Box::new(std::io::stderr()));
        };
        let display = Self { view, tally: Mutex::new(Tally::new(plan)) };
        display.refresh();
        display
    }

    /// One line per finished job, into `out`.
    pub fn lines(plan: &Plan<'_>, out: Box<dyn Write + Send>) -> Self {
        Self { view: View::Lines(Mutex::new(out)), tally: Mutex::new(Tally::new(plan)) }
    }

    pub(crate) fn begin(&self, key: Key, spec: &Spec) {
        self.tally().restart(Some(key));
        if let View::Bars { job, .. } = &self.view {
            job.set_length(1);
            job.set_position(0);
            job.set_message("");
            job.set_prefix(format!("{} {}", spec.stage.kind, spec.name));
        }
        self.refresh();
    }

    /// How many processes work on the run, this one included.
    pub(crate) fn share(&self, processes: usize) {
        self.tally().processes = processes;
    }

    /// Whether a job that does not run in this process has not ended.
    pub(crate) fn waits_for(&self, key: Key) -> bool {
        let tally = self.tally();
        tally.running != Some(key) && tally.open.contains_key(&key)
    }

    /// Says how a job ended, once.
    pub(crate) fn end(&self, key: Key, spec: &Spec, ending: Ending<'_>) {
        let mut tally = self.tally();
        // One that pauses runs on later.
        if !tally.open.contains_key(&key) {
            return;
        }
        if !matches!(ending, Ending::Paused) {
            tally.close(key);
        }
        if tally.running == Some(key) {
            tally.restart(None);
        }
        let what = format!("{} {}", spec.stage.kind, spec.name);
        let text = match ending {
            Ending::Done { seconds, resumed } => {
                if !resumed {
                    tally.forecast.observe(spec.stage.kind, spec.seconds, seconds);
                }
                format!("done: {what}, {}", spell_seconds(seconds))
            }
            Ending::Beside { seconds } => {
                tally.forecast.observe(spec.stage.kind, spec.seconds, seconds);
                format!("done: {what}, {}", spell_seconds(seconds))
            }
            Ending::Elsewhere { seconds } => format!("done elsewhere: {what}, {}", spell_seconds(seconds)),
            Ending::Failed => format!("FAILED: {what}"),
            Ending::Paused => format!("paused: {what}"),
            Ending::Blocked(by) => format!("not run: {what}, which needs {by}"),
        };
        let left = if tally.open.is_empty() { String::new() } else { format!(" ({})", tally.left(0.0)) };
        let line = format!("[{}/{}] {text}{left}", tally.ended(), tally.jobs);
        drop(tally);
        self.say(&line);
        self.refresh();
    }

    /// Prints a line for the record, above the bars if there are any.
    pub(crate) fn say(&self, line: &str) {
        match &self.view {
            // A closed standard error is no reason to stop computing.
            View::Bars { all, .. } => drop(all.println(line)),
            View::Lines(out) => drop(writeln!(out.lock().unwrap_or_else(PoisonError::into_inner), "{line}")),
        }
    }

    fn refresh(&self) {
        if let View::Bars { overall, .. } = &self.view {
            let tally = self.tally();
            overall.set_position((tally.fraction() * UNITS as f64) as u64);
            let left = tally.left(tally.started.elapsed().as_secs_f64());
            overall.set_message(format!(
                "job {} of {}, {left}",
                (tally.ended() + 1).min(tally.jobs),
                tally.jobs
            ));
        }
    }

    /// A panic of a job cannot leave the tally inconsistent, so a poisoned lock is used as it is.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Display {
    fn progress(&self, done: u64, total: u64, message: &str) {
        self.tally().fraction = done.min(total) as f64 / total.max(1) as f64;
        if let View::Bars { job, .. } = &self.view {
            job.set_length(total);
            job.set_position(done);
            job.set_message(message.to_owned());
            self.refresh();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let View::Bars { overall, job, .. } = &self.view {
            job.finish_and_clear();
            overall.finish_and_clear();
        }
    }
}

/// The two bars, or `None` where nothing is drawn: off a terminal, and on one with `TERM=dumb`, where the lines that
/// bars print above themselves would be dropped too.
fn bars(all: MultiProgress) -> Option<View> {
    if all.is_hidden() {
        return None;
    }
    let style = |template| {
        ProgressStyle::with_template(template).expect("the template is valid").progress_chars("━╸ ")
    };
    let overall = all.add(ProgressBar::new(UNITS));
    overall.set_style(style("{bar:32} {percent:>3} %  {elapsed_precise}  {msg}"));
    let job = all.add(ProgressBar::new(1));
    job.set_style(style("{bar:32} {prefix}  {wide_msg}"));
    for bar in [&overall, &job] {
        bar.enable_steady_tick(Duration::from_millis(500));
    }
    Some(View::Bars { all, overall, job })
}

/// How a job ended.
pub(crate) enum Ending<'a> {
    /// Well.
    Done { seconds: f64, resumed: bool },
    /// Well, by a helper.
    Beside { seconds: f64 },
    /// Well, by another process.
    Elsewhere { seconds: f64 },
    /// With an error.
    Failed,
    /// At the time limit or by a signal; it resumes in a later run.
    Paused,
    /// It could not run because the named job failed.
    Blocked(&'a str),
}

impl Tally {
    fn new(plan: &Plan<'_>) -> Self {
        let open = plan.open().map(|p| (p.job.key(), (p.job.spec().stage.kind, p.job.spec().seconds)));
        Self::of(open.collect(), plan.forecast())
    }

    fn of(open: BTreeMap<Key, (&'static str, f64)>, forecast: Forecast) -> Self {
        let mut estimates = BTreeMap::new();
        for (kind, seconds) in open.values() {
            *estimates.entry(*kind).or_default() += seconds;
        }
        Self {
            forecast,
            jobs: open.len(),
            estimate: estimates.values().sum(),
            open,
            estimates,
            running: None,
            processes: 1,
            started: Instant::now(),
            fraction: 0.0,
        }
    }

    /// Another job runs, or none.
    fn restart(&mut self, running: Option<Key>) {
        self.running = running;
        self.started = Instant::now();
        self.fraction = 0.0;
    }

    /// A job has ended.
    fn close(&mut self, key: Key) {
        let Some((kind, seconds)) = self.open.remove(&key) else { return };
        if self.open.is_empty() {
            self.estimates.clear();
        } else if let Some(sum) = self.estimates.get_mut(kind) {
            // What a sum loses by rounding is not worth a negative time.
            *sum = (*sum - seconds).max(0.0);
        }
    }

    fn ended(&self) -> usize {
        self.jobs - self.open.len()
    }

    /// The share of the estimated cost that is spent: unlike the expected time, it never decreases.
    fn fraction(&self) -> f64 {
        let open: f64 = self.estimates.values().sum();
        let running = self.running_job().map_or(0.0, |(_, seconds)| seconds * self.fraction);
        if self.estimate > 0.0 { 1.0 - (open - running) / self.estimate } else { 1.0 }
    }

    fn running_job(&self) -> Option<(&'static str, f64)> {
        self.open.get(&self.running?).copied()
    }

    fn left(&self, elapsed: f64) -> String {
        let (running, whole) = self.running_job().map_or((0.0, 0.0), |(kind, seconds)| {
            let fraction = if elapsed > 0.0 { self.fraction } else { 0.0 };
            (self.forecast.rest(kind, seconds, elapsed, fraction), self.forecast.seconds(kind, seconds))
        });
        let open: f64 = self.estimates.iter().map(|(kind, sum)| self.forecast.seconds(kind, *sum)).sum();
        let waiting = (open - whole).max(0.0);
        let left = running.max((running + waiting) / self.processes as f64);
        format!("about {} left", spell_seconds(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stage;
    use indicatif::ProgressDrawTarget;
    use serde_json::{Value, json};

    #[test]
    fn what_draws_no_bars_gets_lines() {
        assert!(bars(MultiProgress::with_draw_target(ProgressDrawTarget::hidden())).is_none());
    }

    /// Keys of jobs of these kinds and estimates, and their tally; the first job runs.
    fn tally(open: &[(&'static str, f64)]) -> (Vec<Key>, Tally) {
        let keys: Vec<Key> = (0..open.len()).map(|i| Key::of(&json!(i))).collect();
        let mut tally =
            Tally::of(keys.iter().copied().zip(open.iter().copied()).collect(), Forecast::default());
        tally.restart(keys.first().copied());
        (keys, tally)
    }

    #[test]
    fn the_bar_follows_cost_and_not_the_number_of_jobs() {
        let (keys, mut tally) = tally(&[("pretrain", 90.0), ("probe", 10.0)]);
        assert_eq!(tally.fraction(), 0.0);
        tally.fraction = 0.5;
        assert!((tally.fraction() - 0.45).abs() < 1e-12);
        tally.close(keys[0]);
        tally.restart(Some(keys[1]));
        assert!((tally.fraction() - 0.9).abs() < 1e-12);
    }

    #[test]
    fn the_time_left_counts_the_running_job_by_its_pace_and_the_others_by_their_estimates() {
        let (_, mut tally) = tally(&[("pretrain", 90.0), ("probe", 10.0)]);
        assert_eq!(tally.left(0.0), "about 1 min 40 s left");
        tally.fraction = 0.5;
        assert_eq!(tally.left(20.0), "about 30 s left");
    }

    #[test]
    fn the_time_left_is_shared_but_no_job_is() {
        let (_, mut tally) = tally(&[("pretrain", 60.0), ("pretrain", 80.0), ("probe", 10.0)]);
        tally.processes = 2;
        assert_eq!(tally.left(0.0), "about 1 min 15 s left");
        tally.processes = 4;
        assert_eq!(tally.left(0.0), "about 1 min 00 s left");
    }

    #[test]
    fn the_bar_never_runs_backwards_from_job_to_job() {
        let specs = ["a", "b"].map(|name| Spec {
            name: name.into(),
            stage: Stage { kind: "pretrain", version: 1 },
            seed: 0,
            config: Value::Null,
            inputs: vec![],
            seconds: 5.0,
        });
        let (keys, tally) = tally(&[("pretrain", 5.0), ("pretrain", 5.0)]);
        let view = View::Lines(Mutex::new(Box::new(std::io::sink())));
        let display = Display { view, tally: Mutex::new(tally) };
        let mut seen = vec![];
        for (&key, spec) in keys.iter().zip(&specs) {
            display.begin(key, spec);
            for done in 0..=4 {
                display.progress(done, 4, "");
                seen.push(display.tally().fraction());
            }
            display.end(key, spec, Ending::Done { seconds: 1.0, resumed: false });
            seen.push(display.tally().fraction());
        }
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!((seen[0], seen[5], seen[11]), (0.0, 0.5, 1.0));
    }
}
