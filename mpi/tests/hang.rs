//! Ranks that mpirun starts, of which one is silent: after the timeout all end, with one message.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tarrl_mpi::MpiRanks;
use tarrl_parallel::{Group, SumOrder};

/// What the ranks wait for each other, and how long the silent one is silent unless mpirun ends it.
const TIMEOUT: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(200);

/// A filter that no test has as its name; it tells the program that mpirun started it.
const AS_RANK: &str = "as-a-rank";

/// One of four ranks; the one that is `silent` takes part in one exchange and then in none.
fn take_part(silent: usize) {
    let ranks = MpiRanks::open(4, TIMEOUT).unwrap();
    let group = Group::new(4, Box::new(ranks), SumOrder::Fixed).unwrap();
    let shard = group.shards().remove(0);
    let mut values = vec![shard.index() as f32; 1000];
    shard.sum(&mut values);
    assert_eq!(values, [6.0; 1000]);
    shard.check().unwrap();
    if shard.index() == silent {
        sleep(SILENCE);
    }
    shard.gather(&[0]);
    unreachable!("a rank is missing, and MPI has ended this process: {:?}", shard.check());
}

/// Runs the test of this name once more on four ranks, which have to end by themselves with one message.
fn hung(test: &str, silent: usize) {
    if std::env::args().any(|word| word == AS_RANK) {
        return take_part(silent);
    }
    if !Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return println!("did not run ranks over MPI: there is no mpirun (Debian: openmpi-bin)");
    }
    let mut command = Command::new("mpirun");
    // Ranks may share a core, and root may run the tests.
    command.args(["--oversubscribe", "--allow-run-as-root", "--mca", "mpi_yield_when_idle", "1"]);
    command.args(["-np", "4"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, AS_RANK, "--nocapture", "--test-threads", "1"]);
    let began = Instant::now();
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let message = "no answer of the other ranks for 2 s (--rank-timeout)";
    assert!(errors.len() == 1 && errors[0].contains(message), "{text}");
    assert!(began.elapsed() < SILENCE, "mpirun waited for the silent rank");
}

#[test]
fn a_silent_rank_ends_all_after_the_timeout() {
    hung("a_silent_rank_ends_all_after_the_timeout", 1);
}

/// Of the three that wait one alone speaks.
#[test]
fn a_silent_first_rank_does_too() {
    hung("a_silent_first_rank_does_too", 0);
}
