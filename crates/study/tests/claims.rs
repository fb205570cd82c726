//! Claims: one process for each job, whoever dies, stalls or begins at the same moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{scope, sleep};
use std::time::Duration;

use serde_json::{Value, json};
use tarrl_jobs::{
    ClaimRecord, Claims, Display, Graph, GraphJob, Job, JobContext, JobHeld, JobState, Key, MissingInputs,
    Phase, Plan, RunEnvironment, RunSummary, Runs, Session, Spec, Stage, State, Stop, Stopped, Take, execute,
    execute_one, read_claim, read_graph, statuses, write_graph,
};

fn spec(name: &str, inputs: &[Key]) -> Spec {
    Spec {
        name: name.to_owned(),
        stage: Stage { kind: "test", version: 1 },
        seed: 0,
        config: json!(name),
        inputs: inputs.to_vec(),
        seconds: 1.0,
    }
}

fn job(name: &str, inputs: &[Key], run: impl Fn(&JobContext<'_>) -> anyhow::Result<Value> + 'static) -> Job {
    Job::new(spec(name, inputs), run)
}

fn open(out: &Path) -> (Runs, Claims) {
    let runs = Runs::new(out, "p");
    let claims = runs.open().unwrap();
    (runs, claims)
}

fn environment() -> RunEnvironment {
    RunEnvironment { provenance: Value::Null, device: tarrl_tensor::cpu() }
}

/// Runs the graph as one of several processes.
fn work(graph: &Graph, out: &Path) -> RunSummary {
    let (runs, claims) = open(out);
    let plan = Plan::new(graph, &runs);
    let display = Display::lines(&plan, Box::new(std::io::sink()));
    let (environment, stop) = (environment(), Stop::default());
    let session =
        Session { runs: &runs, claims: &claims, environment: &environment, stop: &stop, display: &display };
    execute(&plan, &session)
}

fn one(graph: &Graph, out: &Path, key: Key, most: u32) -> anyhow::Result<()> {
    let (runs, claims) = open(out);
    let plan = Plan::of_inputs(graph, &runs, key);
    let display = Display::lines(&plan, Box::new(std::io::sink()));
    let (environment, stop) = (environment(), Stop::default());
    let session =
        Session { runs: &runs, claims: &claims, environment: &environment, stop: &stop, display: &display };
    execute_one(&plan, &session, key, most)
}

/// The claim of a process on a machine of which nothing else is known.
fn elsewhere(runs: &Runs, name: &str, phase: Phase, heartbeat: f64) {
    let record = ClaimRecord {
        host: "far".into(),
        machine: "another boot".into(),
        process: 7,
        token: "1".into(),
        heartbeat,
        beat: 0,
        phase,
        cause: "no memory".into(),
        found: String::new(),
        fruitless: 0,
    };
    fs::write(runs.claims().join(format!("{name}.0")), serde_json::to_vec(&record).unwrap()).unwrap();
}

#[test]
fn of_many_processes_at_high_rate_one_has_each_claim() {
    let out = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..200).map(|i| format!("job{i}")).collect();
    let holders: Vec<AtomicUsize> = names.iter().map(|_| AtomicUsize::new(0)).collect();
    let made = AtomicUsize::new(0);
    scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let (_, claims) = open(out.path());
                for (name, holders) in names.iter().zip(&holders) {
                    if let Take::Claimed(claim) = claims.take(name, String::new).unwrap() {
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "{name} has two holders");
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        made.fetch_add(1, Ordering::SeqCst);
                        claim.end(Phase::Stopped, "").unwrap();
                    }
                }
            });
        }
    });
    let files: Vec<_> =
        fs::read_dir(Runs::new(out.path(), "p").claims()).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), made.load(Ordering::SeqCst), "a file for each claim, and no temporary one");
    for file in files {
        assert_eq!(read_claim(&file.path()).unwrap().phase, Phase::Stopped);
    }
}

#[test]
fn two_workers_share_the_jobs_and_do_nothing_twice() {
    let (out, ran) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(BTreeMap::<String, usize>::new())));
    // The closures of a graph stay in their thread.
    let graph = |ran: &Arc<Mutex<BTreeMap<String, usize>>>| {
        let mut graph = Graph::default();
        let mut last = None;
        for i in 0..12 {
            let (ran, name) = (ran.clone(), format!("job{i}"));
            let inputs: Vec<Key> = if i % 3 == 0 { vec![] } else { last.into_iter().collect() };
            let label = name.clone();
            last = Some(graph.add(job(&name, &inputs, move |context| {
                *ran.lock().unwrap().entry(label.clone()).or_default() += 1;
                sleep(Duration::from_millis(5));
                fs::write(context.output("out.txt"), &label)?;
                Ok(json!(label))
            })));
        }
        graph
    };
    let summaries: Vec<RunSummary> = scope(|scope| {
        let worker = || scope.spawn(|| work(&graph(&ran), out.path()));
        let workers = [worker(), worker(), worker()];
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(summaries.iter().map(|summary| summary.ran).sum::<usize>(), 12);
    assert!(summaries.iter().all(|summary| summary.finished.len() == 12 && summary.failures.is_empty()));
    assert!(ran.lock().unwrap().values().all(|times| *times == 1), "{:?}", ran.lock().unwrap());
}

#[test]
fn the_claim_of_a_process_that_ended_here_is_taken_over_at_once() {
    let out = tempfile::tempdir().unwrap();
    let (_, first) = open(out.path());
    let Take::Claimed(claim) = first.take("a", String::new).unwrap() else { panic!("nobody has it") };
    let (_, second) = open(out.path());
    let Take::Held(holder) = second.take("a", String::new).unwrap() else { panic!("it is held") };
    assert_eq!(holder.process, std::process::id());
    // As a killed process leaves it: the lock is gone, the claim says that it runs.
    drop(claim);
    let Take::Claimed(claim) = second.take("a", || "checkpoint".into()).unwrap() else {
        panic!("it is free")
    };
    assert_eq!((claim.record().fruitless, claim.is_held()), (0, true));
    drop(claim);
    let Take::Claimed(claim) = first.take("a", || "checkpoint".into()).unwrap() else { panic!("it is free") };
    assert_eq!(claim.record().fruitless, 1, "nothing was added to the checkpoint");
}

/// Whether it lives is told by its changes alone: here there are none for six heartbeats.
#[test]
fn a_silent_claim_of_another_machine_is_taken_over_and_one_that_beats_is_not() {
    let out = tempfile::tempdir().unwrap();
    let (runs, claims) = open(out.path());
    elsewhere(&runs, "silent", Phase::Running, 0.02);
    elsewhere(&runs, "beats", Phase::Running, 600.0);
    let taken = |name: &str| matches!(claims.take(name, String::new).unwrap(), Take::Claimed(_));
    assert!(!taken("silent") && !taken("beats"));
    sleep(Duration::from_millis(200));
    assert!(taken("silent") && !taken("beats"));
    assert!(runs.claims().join("silent.1").exists() && !runs.claims().join("beats.1").exists());
}

#[test]
fn one_that_was_given_up_learns_that_it_has_lost_the_job() {
    let out = tempfile::tempdir().unwrap();
    let mut graph = Graph::default();
    let folder = out.path().to_path_buf();
    let key = graph.add(job("a", &[], move |context| {
        let runs = Runs::new(&folder, "p");
        let next = fs::read_dir(runs.claims())?.next().expect("it is claimed")?.path().with_extension("1");
        fs::write(next, "{}")?;
        // The heartbeat of a second sees it.
        while context.stop().reason().is_none() {
            sleep(Duration::from_millis(5));
        }
        context.stop().check()?;
        Ok(Value::Null)
    }));
    let runs = Runs::new(out.path(), "p");
    let claims = runs.open_with(Duration::from_millis(20)).unwrap();
    let plan = Plan::new(&graph, &runs);
    let display = Display::lines(&plan, Box::new(std::io::sink()));
    let (environment, stop) = (environment(), Stop::default());
    let session =
        Session { runs: &runs, claims: &claims, environment: &environment, stop: &stop, display: &display };
    let error = execute_one(&plan, &session, key, 9).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Stopped::Displaced));
    assert_ne!(runs.job(key).state(), State::New);
    assert!(!matches!(runs.job(key).state(), State::Done(_)));
}

#[test]
fn a_failure_elsewhere_is_taken_as_it_is_and_an_older_one_is_tried_again() {
    let out = tempfile::tempdir().unwrap();
    let (runs, claims) = open(out.path());
    assert!(claims.last("a").unwrap().is_none(), "the first look finds nothing");
    elsewhere(&runs, "a", Phase::Failed, 10.0);
    let Take::Failed(record) = claims.take("a", String::new).unwrap() else { panic!("it has just failed") };
    assert_eq!(record.cause, "no memory");
    let (_, later) = open(out.path());
    assert!(matches!(later.take("a", String::new).unwrap(), Take::Claimed(_)));
}

#[test]
fn a_single_job_needs_its_inputs_and_a_free_claim() {
    let out = tempfile::tempdir().unwrap();
    let mut graph = Graph::default();
    let a = graph.add(job("a", &[], |_| Ok(json!(1))));
    let b = graph.add(job("b", &[a], |context| Ok(json!([context.input(0).output, 2]))));
    let error = one(&graph, out.path(), b, 9).unwrap_err();
    assert!(error.is::<MissingInputs>() && error.to_string().contains(&a.to_string()), "{error}");
    one(&graph, out.path(), a, 9).unwrap();
    let (runs, claims) = open(out.path());
    let held = claims.take(&b.to_string(), String::new).unwrap();
    assert!(one(&graph, out.path(), b, 9).unwrap_err().is::<JobHeld>());
    drop(held);
    one(&graph, out.path(), b, 9).unwrap();
    one(&graph, out.path(), b, 9).unwrap();
    let State::Done(manifest) = runs.job(b).state() else { panic!("not done") };
    assert_eq!(manifest.output, json!([1, 2]));
}

#[test]
fn a_job_that_makes_no_progress_is_given_up_and_one_that_does_is_not() {
    let out = tempfile::tempdir().unwrap();
    let mut graph = Graph::default();
    let stuck = graph.add(job("stuck", &[], |_| Err(Stopped::Signal.into())));
    let slow = graph.add(job("slow", &[], |context| {
        let path = context.scratch("steps.txt");
        let steps = fs::read_to_string(&path).unwrap_or_default() + ".";
        fs::write(&path, &steps)?;
        if steps.len() < 8 { Err(Stopped::Signal.into()) } else { Ok(json!(steps)) }
    }));
    let tries = |key| {
        (1..).find_map(|n| match one(&graph, out.path(), key, 3) {
            Err(error) if error.is::<Stopped>() => None,
            ended => Some((n, ended.map_err(|error| error.to_string()))),
        })
    };
    let (n, ended) = tries(stuck).unwrap();
    assert!(n == 4 && ended.unwrap_err().contains("begun 4 times without any progress"), "{n}");
    assert_eq!(tries(slow), Some((8, Ok(()))));
}

/// Two that hold a job, because one of them was given up and lives, end with the manifest of the first.
#[test]
fn the_first_manifest_of_a_job_stays() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_path_buf();
    let mut inner = Graph::default();
    let inner_key = inner.add(job("a", &[], |_| Ok(json!("the first"))));
    let mut graph = Graph::default();
    let key = graph.add(job("a", &[], move |_| {
        // The twin works in the same folder, but sees other claims.
        let runs = Runs::new(&folder, "p");
        fs::remove_dir_all(runs.claims())?;
        let mut twin = Graph::default();
        let twin_key = twin.add(job("a", &[], |_| Ok(json!("the first"))));
        one(&twin, &folder, twin_key, 9)?;
        Ok(json!("the second"))
    }));
    assert_eq!(inner_key, key);
    let summary = work(&graph, out.path());
    assert!(summary.failures.is_empty(), "{summary}");
    assert_eq!(summary.finished[&key].output, json!("the first"));
}

#[test]
fn the_states_of_jobs_are_read_from_the_run_folder_alone() {
    let out = tempfile::tempdir().unwrap();
    let mut graph = Graph::default();
    let a = graph.add(job("a", &[], |_| Ok(Value::Null)));
    let b = graph.add(job("b", &[a], |_| Ok(Value::Null)));
    let c = graph.add(job("c", &[a], |_| Ok(Value::Null)));
    let d = graph.add(job("d", &[b, c], |_| Ok(Value::Null)));
    let (runs, claims) = open(out.path());
    write_graph(&runs, &graph).unwrap();
    one(&graph, out.path(), a, 9).unwrap();
    elsewhere(&runs, &b.to_string(), Phase::Failed, 10.0);
    let held = claims.take(&c.to_string(), String::new).unwrap();
    let jobs = read_graph(runs.root()).unwrap();
    assert_eq!(jobs, GraphJob::all(&graph));
    let found = statuses(&jobs, &runs, &runs.watch(), false).unwrap();
    let states: Vec<_> = found.iter().map(|status| (status.job.key, status.state, status.begun)).collect();
    let expected = [
        (a, JobState::Done, 1),
        (b, JobState::Failed, 1),
        (c, JobState::Running, 1),
        (d, JobState::Waiting, 0),
    ];
    assert_eq!(states, expected);
    assert_eq!(found[1].cause.as_deref(), Some("no memory"));
    drop(held);
    let found = statuses(&jobs, &runs, &runs.watch(), true).unwrap();
    assert_eq!(found[2].state, JobState::Ready);
    assert!(read_graph(out.path()).unwrap_err().contains("there is no study"));
}
