//! The same study again: nothing is computed twice, and the number of threads changes no bit.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::world::{JOBS, World, reference};

#[test]
fn run_again_every_job_is_skipped() {
    let world = World::finished();
    let (kept, bits) = (world.kept(), world.bits());
    let ran = world.run(&[]);
    assert!(ran.stdout.contains("The report: "), "{}", ran.stdout);
    ran.ran_nothing();
    assert_eq!(world.kept(), kept);
    assert_eq!(world.bits(), bits);
    let plan = world.run(&["--dry-run"]).succeeded().stdout;
    assert!(plan.contains(&format!("{JOBS} jobs: {JOBS} done, 0 to run\n")), "{plan}");
}

#[test]
fn another_seed_runs_only_what_is_new() {
    let world = World::finished();
    world.edit("experiments/profiles/tiny.toml", "methods = [\"plain\", \"tarr\"]", "methods = [\"plain\"]");
    let kept = world.kept();
    let ran = world.run(&["--seeds", "2"]).succeeded();
    let done: BTreeSet<&str> =
        ran.stderr.lines().filter_map(|line| line.split("done: ").nth(1)?.split(", ").next()).collect();
    assert_eq!(
        done,
        ["attack plain", "bound plain", "certify plain", "head plain", "pretrain plain"].into(),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("11 jobs, 6 done already") && !ran.stderr.contains("seed 0"),
        "{}",
        ran.stderr
    );
    let now = world.kept();
    assert!(kept.iter().all(|(path, file)| now.get(path) == Some(file)));
}

#[test]
fn one_thread_gives_the_bits_of_two() {
    same_bits_on("1");
}

#[test]
fn three_threads_give_the_bits_of_two() {
    same_bits_on("3");
}

#[test]
fn two_processes_give_the_bits_of_one_and_share_the_jobs() {
    let world = same_bits_with(&["--threads", "2", "--processes", "2"]);
    let claims = fs::read_dir(world.path("runs/tiny/claims")).unwrap();
    let processes: BTreeSet<u64> = claims
        .filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file.unwrap().path()).unwrap()).ok())
        .map(|claim| claim["process"].as_u64().unwrap())
        .collect();
    assert_eq!(processes.len(), 2, "{processes:?}");
    assert!(processes.iter().all(|process| !Path::new(&format!("/proc/{process}")).exists()));
}

fn same_bits_on(threads: &str) {
    same_bits_with(&["--threads", threads]);
}

fn same_bits_with(arguments: &[&str]) -> World {
    let world = World::new();
    let ran = world.run(arguments).succeeded();
    assert_eq!(ran.stderr.matches("done: ").count(), JOBS, "{}", ran.stderr);
    assert_eq!(world.bits(), reference().bits());
    world
}
