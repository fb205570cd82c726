//! Measures how near many processes come to the ideal on a grid of jobs that only sleep:
//! `grid FOLDER [PROCESSES [JOBS [MILLISECONDS]]]`.
//!
//! A fifth of the jobs are trainings, four others need each of them. The ideal is the sum of their seconds over the processes;
//! the longest chain of jobs is far below it.

use std::env::args;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tarrl_jobs::{Display, Graph, Job, Plan, RunEnvironment, Runs, Session, Spec, Stage, Stop, execute};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = args().collect();
    let folder = PathBuf::from(words.get(1).context("grid FOLDER [PROCESSES [JOBS [MILLISECONDS]]]")?);
    let number = |i: usize, usual: usize| words.get(i).map_or(Ok(usual), |word| word.parse());
    let (processes, jobs, milliseconds) = (number(2, 64)?, number(3, 10_000)?, number(4, 2000)?);
    let go = folder.join("go");
    if words.get(5).is_some_and(|word| word == "child") {
        while !go.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        return work(&folder, &graph(jobs, milliseconds).0);
    }
    Runs::new(&folder, "grid").open()?;
    ensure!(!go.exists(), "{} was used before; choose another folder", folder.display());
    let numbers = [processes, jobs, milliseconds].map(|number| number.to_string());
    let child = || {
        let mut command = Command::new(&words[0]);
        command.arg(&folder).args(&numbers).arg("child").env("RAYON_NUM_THREADS", "1").stdout(Stdio::null());
        command.spawn().context("cannot start a process")
    };
    let children = (0..processes).map(|_| child()).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    std::fs::write(&go, "")?;
    for mut child in children {
        ensure!(child.wait()?.success(), "a process failed");
    }
    let (took, ideal) = (began.elapsed().as_secs_f64(), graph(jobs, milliseconds).1 / processes as f64);
    println!(
        "{jobs} jobs by {processes} processes: {took:.1} s, ideal {ideal:.1} s, ratio {:.3}",
        took / ideal
    );
    Ok(())
}

fn work(folder: &Path, graph: &Graph) -> anyhow::Result<()> {
    let runs = Runs::new(folder, "grid");
    let claims = runs.open()?;
    let plan = Plan::new(graph, &runs);
    let display = Display::lines(&plan, Box::new(std::io::sink()));
    let environment = RunEnvironment { provenance: Value::Null, device: tarrl_tensor::cpu() };
    let (environment, stop) = (&environment, &Stop::default());
    execute(&plan, &Session { runs: &runs, claims: &claims, environment, stop, display: &display })
        .into_result()?;
    Ok(())
}

/// The grid, and the sum of its seconds. The mean training takes `milliseconds`, what needs it a half of that.
fn graph(jobs: usize, milliseconds: usize) -> (Graph, f64) {
    let mut graph = Graph::default();
    let mut total = 0.0;
    for training in 0..jobs / 5 {
        let mut add = |place: usize, mean: f64, inputs: Vec<_>| {
            // Between a half and three halves of the mean.
            let share = 0.5 + ((5 * training + place) * 7919 % 1000) as f64 / 1000.0;
            let seconds = share * mean * milliseconds as f64 / 1000.0;
            total += seconds;
            let stage = Stage { kind: if place == 0 { "training" } else { "evaluation" }, version: 1 };
            let config = json!({ "training": training, "place": place });
            let name = format!("{training} {place}");
            let spec = Spec { name, stage, seed: 0, config, inputs, seconds };
            graph.add(Job::new(spec, move |_| {
                std::thread::sleep(Duration::from_secs_f64(seconds));
                Ok(json!(1))
            }))
        };
        let encoder = add(0, 1.0, vec![]);
        for place in 1..5 {
            add(place, 0.5, vec![encoder]);
        }
    }
    (graph, total)
}
