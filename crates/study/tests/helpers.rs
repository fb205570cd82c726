//! The engine with helpers: jobs at the same time, one display, and the cores shared.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tarrl_jobs::{
    Display, Graph, Helpers, Job, Key, Plan, RunEnvironment, RunSummary, Runs, Session, Spec, Stage, Stop,
    execute_ready, execute_with_helpers,
};
use tarrl_tensor::{Cpu, Device};

/// What the jobs of a test share.
#[derive(Clone)]
struct Shared {
    device: Device,
    /// `left` and `right` pass it together.
    meeting: Arc<Barrier>,
    /// The threads that `left` and `right` had.
    threads: Arc<AtomicUsize>,
    failing: bool,
}

fn spec(name: &str, inputs: Vec<Key>, seconds: f64) -> Spec {
    Spec {
        name: name.into(),
        stage: Stage { kind: "test", version: 1 },
        seed: 0,
        config: json!({ "name": name }),
        inputs,
        seconds,
    }
}

/// `first`, then `left` and `right` at the same time, then `last`.
fn graph(shared: &Shared) -> Graph {
    let mut graph = Graph::default();
    let failing = shared.failing;
    let first = graph.add(Job::new(spec("first", vec![], 1.0), move |_| {
        if failing { anyhow::bail!("as expected by the test") } else { Ok(Value::Null) }
    }));
    let both = ["left", "right"].map(|name| {
        let shared = shared.clone();
        graph.add(Job::new(spec(name, vec![first], 1.0), move |_| {
            shared.meeting.wait();
            let until = Instant::now() + Duration::from_secs(20);
            while shared.device.threads() > 2 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            shared.threads.fetch_max(shared.device.threads(), Ordering::Relaxed);
            shared.meeting.wait();
            Ok(Value::Null)
        }))
    });
    graph.add(Job::new(spec("alone", vec![], 1.0), |_| Ok(Value::Null)));
    graph.add(Job::new(spec("last", both.to_vec(), 1.0), |_| Ok(Value::Null)));
    graph
}

/// Threads in the place of processes.
struct Crew {
    out: PathBuf,
    shared: Shared,
    calls: Mutex<Vec<(usize, f64)>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Helpers for Crew {
    fn call(&self, ready: usize, seconds: f64) {
        self.calls.lock().unwrap().push((ready, seconds));
        if ready > 0 && self.working() == 0 {
            let (out, shared) = (self.out.clone(), self.shared.clone());
            self.threads.lock().unwrap().push(spawn(move || help(&out, &graph(&shared))));
        }
    }

    fn working(&self) -> usize {
        self.threads.lock().unwrap().iter().filter(|thread| !thread.is_finished()).count()
    }

    fn include(&self, process: u32) -> bool {
        process == std::process::id()
    }
}

fn help(out: &Path, graph: &Graph) {
    let runs = Runs::new(out, "p");
    let claims = runs.open().unwrap();
    let plan = Plan::new(graph, &runs);
    let display = Display::lines(&plan, Box::new(std::io::sink()));
    let environment = &RunEnvironment { provenance: Value::Null, device: tarrl_tensor::cpu() };
    let stop = &Stop::default();
    execute_ready(&plan, &Session { runs: &runs, claims: &claims, environment, stop, display: &display });
}

/// Runs the graph with a helper; gives what came of it, what was shown, and the calls.
fn run(shared: &Shared) -> (RunSummary, String, Vec<(usize, f64)>) {
    let out = tempfile::tempdir().unwrap();
    let graph = graph(shared);
    let runs = Runs::new(out.path(), "p");
    let claims = runs.open().unwrap();
    let plan = Plan::new(&graph, &runs);
    let screen = out.path().join("screen");
    let display = Display::lines(&plan, Box::new(std::fs::File::create(&screen).unwrap()));
    let environment = &RunEnvironment { provenance: Value::Null, device: shared.device.clone() };
    let stop = &Stop::default();
    let session = Session { runs: &runs, claims: &claims, environment, stop, display: &display };
    let crew = Crew {
        out: out.path().into(),
        shared: shared.clone(),
        calls: Mutex::default(),
        threads: Mutex::default(),
    };
    let summary = execute_with_helpers(&plan, &session, &crew);
    crew.threads.into_inner().unwrap().into_iter().for_each(|thread| thread.join().unwrap());
    (summary, std::fs::read_to_string(screen).unwrap(), crew.calls.into_inner().unwrap())
}

fn shared(failing: bool) -> Shared {
    let device = Cpu { threads: 4, ..Cpu::default() }.open();
    Shared { device, meeting: Arc::new(Barrier::new(2)), threads: Arc::default(), failing }
}

#[test]
fn jobs_run_at_the_same_time_share_the_threads_and_are_all_shown() {
    let shared = shared(false);
    let (summary, shown, calls) = run(&shared);
    assert_eq!(summary.finished.len(), 5, "{shown}");
    for name in ["first", "left", "right", "alone", "last"] {
        assert_eq!(shown.matches(&format!("done: test {name}, ")).count(), 1, "{name} in\n{shown}");
    }
    assert!(shown.contains("[5/5]") && !shown.contains("elsewhere"), "{shown}");
    assert_eq!(calls[0], (1, 1.0), "beside the first job one could begin");
    assert_eq!(shared.threads.load(Ordering::Relaxed), 2, "two processes have half of the threads each");
    assert_eq!(shared.device.threads(), 4, "and alone all of them again");
}

/// A short job, a long one, and a short one that a long one needs: the last begins first.
#[test]
fn the_longest_path_begins_first() {
    let journal = Arc::new(Mutex::new(Vec::new()));
    let mut graph = Graph::default();
    let mut add = |name: &'static str, seconds: f64, inputs: Vec<Key>| {
        let journal = journal.clone();
        graph.add(Job::new(spec(name, inputs, seconds), move |_| {
            journal.lock().unwrap().push(name);
            Ok(Value::Null)
        }))
    };
    add("short", 1.0, vec![]);
    add("long", 5.0, vec![]);
    let start = add("start", 2.0, vec![]);
    add("end", 4.0, vec![start]);
    let out = tempfile::tempdir().unwrap();
    help(out.path(), &graph);
    assert_eq!(*journal.lock().unwrap(), ["start", "long", "end", "short"]);
}

#[test]
fn after_a_failure_no_helper_is_called() {
    let (summary, shown, calls) = run(&shared(true));
    assert_eq!((summary.failures.len(), summary.blocked.len(), summary.finished.len()), (1, 3, 1), "{shown}");
    assert!(calls.len() <= 1, "{calls:?}");
}
