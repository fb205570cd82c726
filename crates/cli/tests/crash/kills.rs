//! Kills: the study is stopped by signals at random moments of every stage, started again, and compared in the end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tarrl_tensor::{Key, Stream};

use crate::world::{Reference, TICK, World, quiet, signal};

/// How many stops hit each stage.
pub(crate) type Hits = BTreeMap<String, usize>;

/// A stage at which the program is to be stopped.
enum Target {
    /// Before the first job.
    Start,
    /// A job, by its place.
    Job(usize),
    /// After the last job.
    Report,
}

/// Stops the study `n` times. Each study is stopped once to three times in every stage, one after the other, and then
/// runs to its end.
pub(crate) fn run(reference: &Reference, n: usize, key: Key) -> Hits {
    let mut hits = Hits::new();
    let mut stops = 0;
    for study in 0usize.. {
        if stops >= n {
            break;
        }
        let mut stream = key.fold(study).stream();
        let world = World::new();
        let story = format!("study {study} of key {key:?}");
        let jobs = (0..reference.jobs.len()).map(Target::Job);
        for target in [Target::Start].into_iter().chain(jobs).chain([Target::Report]) {
            for _ in 0..=stream.below(3) {
                if stops < n
                    && let Some(stage) = stop(reference, &world, &target, &mut stream, &story)
                {
                    *hits.entry(stage).or_default() += 1;
                    stops += 1;
                }
            }
        }
        world.finish();
        reference.check(&world, &story);
    }
    hits
}

/// Starts the program, waits until it is in the stage, stops it at a random moment of that, and returns where it was, or
/// nothing if it had ended before.
fn stop(
    reference: &Reference,
    world: &World,
    target: &Target,
    stream: &mut Stream,
    story: &str,
) -> Option<String> {
    if matches!(target, Target::Job(i) if is_done(reference, world, *i)) {
        return None;
    }
    let took = match target {
        Target::Start => reference.start,
        Target::Job(i) => reference.jobs[*i].took,
        Target::Report => reference.report,
    };
    // A little more than the stage took, so that its end is reached too.
    let wait = took.mul_f64(1.1 * f64::from(stream.unit()));
    let name = ["KILL", "KILL", "KILL", "TERM", "INT", "USR2"][stream.below(6)];
    let (kept, logs) = (world.kept(), logs(reference, world));
    let mut child = quiet(&mut world.reproduce()).spawn().unwrap();
    let clock = Instant::now();
    let reached = || match target {
        Target::Start => true,
        Target::Job(i) => log(reference, world, *i) != logs[*i],
        Target::Report => {
            let begun = clock.elapsed() >= reference.start;
            begun && (0..reference.jobs.len()).all(|i| is_done(reference, world, i))
        }
    };
    while !reached() && child.try_wait().unwrap().is_none() {
        assert!(clock.elapsed() < Duration::from_secs(120), "{story} does not go on");
        sleep(TICK);
    }
    sleep(wait);
    signal(&child, name);
    let status = child.wait().unwrap();
    let now = world.kept();
    let lost: Vec<_> = kept.iter().filter(|(path, file)| now.get(*path) != Some(file)).collect();
    assert!(lost.is_empty(), "{:?} lost or written again by {story}", lost[0].0);
    match (status.signal(), status.code()) {
        (Some(_), _) => {}
        // Its last step may have been under way.
        (None, Some(0)) => return None,
        (None, Some(75)) if name != "KILL" => {}
        _ => panic!("{status} in {story}"),
    }
    let running = (0..reference.jobs.len()).rfind(|&i| log(reference, world, i) != logs[i]);
    Some(match running {
        Some(i) if !is_done(reference, world, i) => reference.jobs[i].kind.clone(),
        Some(i) if i + 1 < reference.jobs.len() => "between jobs".to_owned(),
        None if !(0..reference.jobs.len()).all(|i| is_done(reference, world, i)) => "start".to_owned(),
        _ => "report".to_owned(),
    })
}

fn is_done(reference: &Reference, world: &World, job: usize) -> bool {
    world.jobs().join(&reference.jobs[job].key).join("manifest.json").exists()
}

/// Bytes of the log of a job, to which it writes as soon as it begins.
fn log(reference: &Reference, world: &World, job: usize) -> Option<u64> {
    let log = world.jobs().join(&reference.jobs[job].key).join("log.txt");
    fs::metadata(log).ok().map(|found| found.len())
}

fn logs(reference: &Reference, world: &World) -> Vec<Option<u64>> {
    (0..reference.jobs.len()).map(|job| log(reference, world, job)).collect()
}
