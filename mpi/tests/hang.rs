//! Ranks that mpirun starts, of which one is silent: after the timeout all end, with one message.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tarrl_mpi::MpiRanks;
use tarrl_parallel::{Group, SumOrder};

/// What the ranks wait for each other, and how long the silent one is silent unless mpirun ends it.
const TIMEOUT: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(200);

/// One of four ranks; the one that is `silent` takes part in one exchange and then in none.
fn take_part(silent: usize) {
    let ranks = match MpiRanks::open(4, TIMEOUT) {
        Ok(ranks) => ranks,
        Err(error) => return println!("did not run a rank outside of mpirun: {error}"),
    };
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

#[test]
#[ignore = "a rank, which mpirun starts"]
fn rank_with_a_silent_first() {
    take_part(0);
}

#[test]
#[ignore = "a rank, which mpirun starts"]
fn rank_with_a_silent_second() {
    take_part(1);
}

/// Runs an ignored test on four ranks, which have to end by themselves with one message.
fn hung(rank: &str) {
    if !Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return println!("did not run ranks over MPI: there is no mpirun (Debian: openmpi-bin)");
    }
    let mut command = Command::new("mpirun");
    // Ranks may share a core, and root may run the tests.
    command.args(["--oversubscribe", "--allow-run-as-root", "--mca", "mpi_yield_when_idle", "1"]);
    command.args(["-np", "4"]).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", rank, "--nocapture", "--test-threads", "1"]);
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
    hung("rank_with_a_silent_second");
}

/// Of the three that wait one alone speaks.
#[test]
fn a_silent_first_rank_does_too() {
    hung("rank_with_a_silent_first");
}
