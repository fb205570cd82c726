//! Killed without warning, and the same command again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tarrl_tensor::Key;

use crate::world::{World, reference};

/// The job that is killed: the longest one.
const JOB: [&str; 2] = ["pretrain", "tarr, seed 0"];

#[test]
fn killed_at_random_moments_and_resumed_it_ends_with_the_same_bits() {
    for seed in 0..2 {
        let world = World::new();
        let mut moments = Key::new(seed).fold("moments of death").stream();
        // Thrice, so that a training that went on is killed again.
        let hits = (0..3).filter(|_| kill_in_training(&world, moments.uniform(0.0, 0.8))).count();
        assert!(hits > 0, "no run was killed while it trained");
        let ran = world.run(&[]).succeeded();
        let resumed = format!("resumed: {}\n", JOB.join(" "));
        assert!(hits < 3 || ran.stderr.contains(&resumed), "{}", ran.stderr);
        assert_eq!(world.bits(), reference().bits());
        assert_eq!(names(&world), names(reference()), "nothing half written is left behind");
        world.run(&[]).ran_nothing();
    }
}

#[test]
fn a_corrupt_checkpoint_is_named_and_without_it_the_training_begins_anew() {
    let world = World::finished();
    let bits = world.bits();
    fs::remove_dir_all(world.job(JOB[0], JOB[1])).unwrap();
    let kept = world.kept();
    let checkpoint = checkpoint(&world);
    while !checkpoint.exists() {
        assert!(kill_in_training(&world, 0.1), "the training ended before it could be killed");
    }

    let whole = fs::read(&checkpoint).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (damage, cause) in [
        (&whole[..whole.len() / 2], "is damaged: "),
        (&flipped, "is damaged: its content does not match its checksum"),
        (&b""[..], "is damaged: "),
    ] {
        fs::write(&checkpoint, damage).unwrap();
        let place = checkpoint.display().to_string();
        let remedy = format!("to begin this training anew, delete {place}");
        let failed =
            world.run(&[]).failed(&[&format!("job failed: {}", JOB.join(" ")), &place, cause, &remedy]);
        assert_eq!(failed.stderr.matches(cause).count(), 1, "{}", failed.stderr);
        assert_eq!(world.kept(), kept);
    }
    fs::remove_file(&checkpoint).unwrap();
    let ran = world.run(&[]).succeeded();
    assert_eq!(ran.stderr.matches("done: ").count(), 1, "{}", ran.stderr);
    assert_eq!(world.bits(), bits);
    world.run(&[]).ran_nothing();
}

/// Killed at once, or asked to stop: the helper goes with the process that called it, and what both did is kept.
#[cfg(target_os = "linux")]
#[test]
fn a_helper_does_not_outlive_the_run() {
    for signal in ["KILL", "TERM"] {
        let world = World::new();
        let mut command = world.command(&world.path("runs"));
        command.args(["--threads", "2", "--processes", "2"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let helper = loop {
            let found = processes(&world).into_iter().find(|&process| process != child.id());
            assert!(child.try_wait().unwrap().is_none(), "it ended before a helper had begun");
            if let Some(helper) = found {
                break helper;
            }
            sleep(Duration::from_millis(10));
        };
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        let code = child.wait().unwrap().code();
        assert_eq!(code, (signal == "TERM").then_some(75));
        let killed = Instant::now();
        while Path::new(&format!("/proc/{helper}")).exists() {
            assert!(signal == "KILL", "it waits for its helper");
            assert!(killed.elapsed() < Duration::from_secs(20), "the helper is still there");
            sleep(Duration::from_millis(20));
        }
        world.run(&[]).succeeded();
        assert_eq!(world.bits(), reference().bits());
    }
}

/// The processes that have made claims.
#[cfg(target_os = "linux")]
fn processes(world: &World) -> BTreeSet<u32> {
    let claims = fs::read_dir(world.path("runs/tiny/claims")).into_iter().flatten();
    let claim = |file: std::io::Result<fs::DirEntry>| {
        serde_json::from_slice::<Value>(&fs::read(file.ok()?.path()).ok()?).ok()
    };
    claims.filter_map(claim).filter_map(|claim| claim["process"].as_u64()).map(|id| id as u32).collect()
}

/// Starts the program, waits until the training has begun, or gone on from its checkpoint to the next, and kills it
/// `share` of an epoch later. Returns whether that was before the end of the training.
fn kill_in_training(world: &World, share: f64) -> bool {
    let (training, checkpoint) = (world.job(JOB[0], JOB[1]), checkpoint(world));
    let before = changed(&checkpoint);
    let begun = |at: &Path| at.join("metrics.jsonl").exists();
    let fresh = !begun(&training);
    let mut child =
        world.command(&world.path("runs")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        let moved = if fresh { begun(&training) } else { changed(&checkpoint) != before };
        if moved {
            sleep(Duration::from_secs_f64(share * epoch_seconds()));
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "the training does not begin");
        sleep(Duration::from_millis(1));
    }
    // On Unix this is SIGKILL. A child that has ended by itself leaves nothing to kill.
    let _ = child.kill();
    child.wait().unwrap();
    !training.join("manifest.json").exists()
}

/// The files of the job that was killed.
fn names(world: &World) -> BTreeSet<OsString> {
    fs::read_dir(world.job(JOB[0], JOB[1])).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn checkpoint(world: &World) -> PathBuf {
    world.job(JOB[0], JOB[1]).join("checkpoint.safetensors")
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// The shortest epoch of the uninterrupted run.
fn epoch_seconds() -> f64 {
    let metrics = fs::read_to_string(reference().job(JOB[0], JOB[1]).join("metrics.jsonl")).unwrap();
    let records = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let epochs =
        records.filter(|record| record["kind"] == "epoch").map(|epoch| epoch["seconds"].as_f64().unwrap());
    epochs.fold(f64::INFINITY, f64::min)
}
