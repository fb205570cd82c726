//! The job engine from outside: what is run, what is skipped, what is kept, what is said.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::bail;
use serde_json::{Value, json};
use tarrl_jobs::{
    Display, Graph, Job, JobContext, JobFolder, Key, Plan, RunEnvironment, RunSummary, Runs, Session, Spec,
    Stage, State, Stop, Stopped, execute,
};

type Journal = Arc<Mutex<Vec<String>>>;

fn spec(name: &str, inputs: &[Key]) -> Spec {
    Spec {
        name: name.to_owned(),
        stage: Stage { kind: "test", version: 1 },
        seed: 7,
        config: json!({"name": name}),
        inputs: inputs.to_vec(),
        seconds: 1.0,
    }
}

/// A job that notes in the journal that it ran.
fn job(
    name: &str,
    inputs: &[Key],
    journal: &Journal,
    run: impl Fn(&JobContext<'_>) -> anyhow::Result<Value> + 'static,
) -> Job {
    let (journal, label) = (journal.clone(), name.to_owned());
    Job::new(spec(name, inputs), move |context| {
        journal.lock().unwrap().push(label.clone());
        run(context)
    })
}

fn add(graph: &mut Graph, name: &str, inputs: &[Key], journal: &Journal) -> Key {
    graph.add(job(name, inputs, journal, |context| {
        fs::write(context.output("data.bin"), context.folder().to_string_lossy().as_bytes())?;
        Ok(json!({"seed": context.seed()}))
    }))
}

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs the graph in `out` and returns what came of it and what was shown.
fn run(graph: &Graph, out: &Path) -> (RunSummary, String) {
    run_until(graph, out, None)
}

fn run_until(graph: &Graph, out: &Path, deadline: Option<Instant>) -> (RunSummary, String) {
    let runs = Runs::new(out, "p");
    let claims = runs.open().unwrap();
    let plan = Plan::new(graph, &runs);
    let screen = Screen::default();
    let display = Display::lines(&plan, Box::new(screen.clone()));
    let setting = RunEnvironment { provenance: json!({"version": "test"}), device: tarrl_tensor::cpu() };
    let stop = Stop::new(Arc::default(), deadline);
    let session =
        Session { runs: &runs, claims: &claims, environment: &setting, stop: &stop, display: &display };
    let outcome = execute(&plan, &session);
    let shown = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
    (outcome, shown)
}

fn taken(journal: &Journal) -> Vec<String> {
    std::mem::take(&mut journal.lock().unwrap())
}

fn folder(out: &Path, key: Key) -> JobFolder {
    Runs::new(out, "p").job(key)
}

#[test]
fn a_finished_job_is_skipped_and_its_result_is_loaded() {
    let out = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let a = add(&mut graph, "a", &[], &journal);
    let b = graph.add(job("b", &[a], &journal, |context| {
        Ok(json!({"from a": context.input(0).output, "third": 1.0 / 3.0}))
    }));

    let (first, shown) = run(&graph, out.path());
    assert_eq!(taken(&journal), ["a", "b"]);
    assert_eq!((first.ran, shown.lines().count()), (2, 2), "{shown}");
    let (second, shown) = run(&graph, out.path());
    assert_eq!(taken(&journal), [""; 0]);
    assert_eq!((second.ran, shown.as_str()), (0, ""));
    assert_eq!(second.finished[&b].output, json!({"from a": {"seed": 7}, "third": 1.0 / 3.0}));
    assert_eq!(second.finished[&b].output, first.finished[&b].output);
    assert!(second.finished[&a].folder.join("data.bin").exists());
}

/// `a` stops at the time limit, `b` needs it, `c` does not; later `a` goes on in its folder.
#[test]
fn a_time_limit_postpones_and_is_no_failure() {
    let out = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let a = graph.add(job("a", &[], &journal, |context| {
        let path = context.scratch("half.bin");
        if path.exists() {
            return Ok(json!("the rest"));
        }
        fs::write(path, "half")?;
        Err(Stopped::TimeLimit.into())
    }));
    add(&mut graph, "b", &[a], &journal);
    add(&mut graph, "c", &[], &journal);

    let (none, shown) = run_until(&graph, out.path(), Some(Instant::now()));
    assert_eq!((none.ran, none.postponed, shown.as_str()), (0, 3, ""));
    let (first, shown) = run(&graph, out.path());
    assert!(shown.contains("paused: test a"), "{shown}");
    assert_eq!((first.ran, first.postponed, first.blocked.len(), first.failures.len()), (0, 3, 0, 0));
    assert!(first.into_result().unwrap_err().is::<Stopped>());
    taken(&journal);
    let (second, _) = run(&graph, out.path());
    assert_eq!((second.ran, second.postponed, taken(&journal).len()), (3, 0, 3));
    assert_eq!(second.finished[&a].output, json!("the rest"));
}

/// Half of the work is kept until the whole is on the disk, and no longer.
#[test]
fn files_to_resume_from_outlive_a_manifest_that_cannot_be_written_and_not_one_that_is() {
    let out = tempfile::tempdir().unwrap();
    let mut graph = Graph::default();
    let key = graph.add(job("a", &[], &Journal::default(), |context| {
        fs::write(context.scratch("half.bin"), "half")?;
        Ok(Value::Null)
    }));
    let path = folder(out.path(), key).path().to_path_buf();
    // A folder in the place of the manifest makes the job stale and is removed; this one comes back while it runs.
    let in_the_way = path.join("manifest.json");
    let mut blocked = Graph::default();
    let same = in_the_way.clone();
    let blocked_key = blocked.add(job("a", &[], &Journal::default(), move |context| {
        fs::write(context.scratch("half.bin"), "half")?;
        fs::create_dir(&same)?;
        Ok(Value::Null)
    }));
    assert_eq!(key, blocked_key);
    assert_eq!(run(&blocked, out.path()).0.failures.len(), 1);
    assert_eq!(fs::read(path.join("half.bin")).unwrap(), b"half");

    fs::remove_dir(&in_the_way).unwrap();
    run(&graph, out.path()).0.into_result().unwrap();
    assert!(!path.join("half.bin").exists());
    // As if the program had been killed between manifest and removal; what the job did not name stays.
    for name in ["half.bin", "notes.txt"] {
        fs::write(path.join(name), "left").unwrap();
    }
    run(&graph, out.path()).0.into_result().unwrap();
    assert!(!path.join("half.bin").exists() && path.join("notes.txt").exists());
}

#[test]
fn a_job_folder_has_the_documented_files() {
    let out = tempfile::tempdir().unwrap();
    let mut graph = Graph::default();
    let key = graph.add(job("a", &[], &Journal::default(), |context| {
        fs::write(context.folder().join("metrics.jsonl"), "{}\n")?;
        fs::write(context.scratch("half.bin"), "half")?;
        fs::write(context.output("whole.bin"), "whole")?;
        context.log("in the middle");
        Ok(Value::Null)
    }));
    run(&graph, out.path()).0.into_result().unwrap();
    let path = folder(out.path(), key).path().to_path_buf();
    let mut names: Vec<_> =
        fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "log.txt", "manifest.json", "metrics.jsonl", "whole.bin"]);
    let State::Done(manifest) = folder(out.path(), key).state() else { panic!("not done") };
    assert_eq!(
        manifest.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
        ["whole.bin", "metrics.jsonl"]
    );
    assert_eq!(manifest.provenance, json!({"version": "test"}));
    let config: Value = serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
    assert_eq!(Key::of(&config), key);
    assert!(fs::read_to_string(path.join("log.txt")).unwrap().contains("in the middle"));
}

#[test]
fn a_damaged_manifest_or_output_is_said_and_the_job_runs_again_from_scratch() {
    let out = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let a = add(&mut graph, "a", &[], &journal);
    add(&mut graph, "b", &[a], &journal);
    run(&graph, out.path());
    taken(&journal);
    let path = folder(out.path(), a).path().to_path_buf();
    let whole = fs::read(path.join("manifest.json")).unwrap();

    for (file, content, reason) in [
        ("manifest.json", &whole[..whole.len() / 2], "manifest.json is cut off or damaged"),
        ("manifest.json", b"", "manifest.json is cut off or damaged"),
        ("data.bin", b"x", "data.bin has 1 bytes instead of"),
    ] {
        fs::write(path.join(file), content).unwrap();
        fs::write(path.join("leftover.bin"), "of unknown origin").unwrap();
        let (outcome, shown) = run(&graph, out.path());
        assert_eq!(taken(&journal), ["a"]);
        assert!(shown.starts_with(&format!("again: test a, because {reason}")), "{shown}");
        assert!(!path.join("leftover.bin").exists());
        outcome.into_result().unwrap();
    }
}

#[test]
fn an_interrupted_job_finds_its_own_checkpoint() {
    let out = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let key = graph.add(job("a", &[], &journal, |context| {
        let half = context.scratch("half.txt");
        if !half.exists() {
            fs::write(half, "step 5")?;
            fs::write(context.folder().join(".half-x7.tmp"), "ste")?;
            bail!("the power went out");
        }
        Ok(json!(fs::read_to_string(half)?))
    }));
    assert_eq!(run(&graph, out.path()).0.failures.len(), 1);
    assert_eq!(folder(out.path(), key).state(), State::Interrupted);
    let (outcome, shown) = run(&graph, out.path());
    assert!(shown.starts_with("resumed: test a\n"), "{shown}");
    assert_eq!(outcome.finished[&key].output, "step 5");
    let State::Done(manifest) = folder(out.path(), key).state() else { panic!("not done") };
    assert!(manifest.resumed);
    assert!(!folder(out.path(), key).path().join("half.txt").exists());
    assert!(!folder(out.path(), key).path().join(".half-x7.tmp").exists());
}

#[test]
fn a_failure_takes_its_dependants_and_nothing_else() {
    let out = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let bad = graph.add(job("bad", &[], &journal, |_| {
        Err(anyhow::anyhow!("loss is NaN at step 3").context("training stopped"))
    }));
    let child = add(&mut graph, "child", &[bad], &journal);
    add(&mut graph, "grandchild", &[child], &journal);
    let panics = graph.add(job("panics", &[], &journal, |_| panic!("matmul: [2, 3] against [4, 5]")));
    let good = add(&mut graph, "good", &[], &journal);
    let (outcome, shown) = run(&graph, out.path());
    assert_eq!(taken(&journal), ["bad", "panics", "good"]);
    assert!(shown.contains("not run: test child, which needs bad"), "{shown}");
    assert_eq!(outcome.finished.keys().collect::<Vec<_>>(), [&good]);

    let message = outcome.into_result().unwrap_err().to_string();
    for part in [
        "job failed: test bad\n  cause:  training stopped: loss is NaN at step 3\n",
        "job failed: test panics\n  cause:  panicked: matmul: [2, 3] against [4, 5]\n",
        &format!("folder: {}", folder(out.path(), bad).path().display()),
        &format!("folder: {}", folder(out.path(), panics).path().display()),
        "not run, because they need it: test child; test grandchild",
        "what is finished is kept (1 job)",
    ] {
        assert!(message.contains(part), "{part}\nis not in\n{message}");
    }
    let log = fs::read_to_string(folder(out.path(), bad).path().join("log.txt")).unwrap();
    assert!(log.contains("failed: training stopped: loss is NaN at step 3"), "{log}");
}

#[test]
fn a_promised_file_that_is_missing_fails_the_job() {
    let out = tempfile::tempdir().unwrap();
    let mut graph = Graph::default();
    graph.add(job("a", &[], &Journal::default(), |context| {
        context.output("never.bin");
        Ok(Value::Null)
    }));
    let (outcome, _) = run(&graph, out.path());
    assert!(outcome.failures[0].cause.starts_with("the output file never.bin cannot be read"), "{outcome}");
}

#[test]
fn the_plan_shows_keys_states_and_times_and_touches_nothing() {
    let out = tempfile::tempdir().unwrap();
    let journal = Journal::default();
    let mut graph = Graph::default();
    let keys: Vec<Key> =
        ["done", "stale", "interrupted"].map(|name| add(&mut graph, name, &[], &journal)).into();
    run(&graph, out.path());
    let path = |i: usize| folder(out.path(), keys[i]).path().to_path_buf();
    fs::write(path(1).join("data.bin"), "x").unwrap();
    fs::remove_file(path(2).join("manifest.json")).unwrap();
    let fresh = add(&mut graph, "new", &[keys[0]], &journal);
    taken(&journal);

    let table = Plan::new(&graph, &Runs::new(out.path(), "p")).table();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["key", "kind", "name", "state", "time"]);
    for (line, (key, state)) in lines[1..].iter().zip([
        (keys[0], "done         done"),
        (keys[1], "stale        stale: data.bin has 1 bytes instead of"),
        (keys[2], "interrupted  to do (interrupted)"),
        (fresh, "new          to do"),
    ]) {
        assert!(line.starts_with(&format!("{}  test  {state}", key.short())), "{line}");
    }
    assert!(lines[6].starts_with("4 jobs: 1 done, 3 to run, about "), "{table}");
    assert_eq!(taken(&journal), [""; 0]);
    assert!(!folder(out.path(), fresh).path().exists());

    let nowhere = out.path().join("nowhere");
    assert!(
        Plan::new(&graph, &Runs::new(&nowhere, "p"))
            .table()
            .contains("4 jobs: 0 done, 4 to run, about 4.0 s")
    );
    assert!(!nowhere.exists());
}
