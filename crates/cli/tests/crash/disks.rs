//! Full disks: the study runs out of space at random places of every stage, and goes on when there is some.

use std::fs;
use std::path::Path;
use std::process::Command;

use tarrl_tensor::Key;

use crate::kills::Hits;
use crate::mounts::{on_small_disk, with_short_files};
use crate::world::{Reference, World, failed, files};

/// What a failed write says, whoever wrote.
pub(crate) const CAUSES: [&str; 3] = ["No space left on device", "File too large", "os error 28"];

/// Lets the study run out of space `n` times, each time in the next stage.
pub(crate) fn run(reference: &Reference, n: usize, key: Key) -> Hits {
    let mut hits = Hits::new();
    let mut stops = 0;
    for attempt in 0usize.. {
        if stops >= n {
            break;
        }
        assert!(attempt < 20 * n, "the disk is hardly ever full");
        let done = attempt % (reference.jobs.len() + 1);
        let mut stream = key.fold(attempt).stream();
        let world = World::begun(reference, done);
        let used = pages(&world.path("runs"));
        // What the next job leaves, or the report.
        let next = match reference.jobs.get(done) {
            Some(job) => pages(&reference.world.jobs().join(&job.key)),
            None => pages(&reference.world.path("runs/toy/report")),
        };
        let kilobytes = 4 * (used + stream.below(next as usize) as u64).max(1);
        let command = on_small_disk(&world.reproduce(), &world.path("runs"), kilobytes);
        let stage = reference.jobs.get(done).map_or("report", |job| &job.kind);
        if fails(&world, command, &format!("a disk of {kilobytes} kB in {stage}, try {attempt} of {key:?}")) {
            *hits.entry(stage.to_owned()).or_default() += 1;
            stops += 1;
        }
        resume(reference, &world, &format!("try {attempt} of {key:?}"));
    }
    hits
}

/// The same with a limit on the size of files, which needs no right to mount.
pub(crate) fn run_with_short_files(reference: &Reference, n: usize, key: Key) -> usize {
    let mut stops = 0;
    for attempt in 0..n {
        let mut stream = key.fold(attempt).stream();
        let world = World::begun(reference, attempt % reference.jobs.len());
        let blocks = stream.below(60) as u64;
        let command = with_short_files(&world.reproduce(), blocks);
        let story = format!("files of {blocks} blocks, try {attempt} of {key:?}");
        stops += usize::from(fails(&world, command, &story));
        resume(reference, &world, &story);
    }
    stops
}

/// Runs the command and returns whether space ran out. What was finished before is still there.
fn fails(world: &World, mut command: Command, story: &str) -> bool {
    let kept = world.kept();
    let output = command.output().unwrap();
    let now = world.kept();
    let lost: Vec<_> = kept.iter().filter(|(path, file)| now.get(*path) != Some(file)).collect();
    assert!(lost.is_empty(), "{:?} lost or written again: {story}", lost[0].0);
    let full = !output.status.success();
    if full {
        failed(&output, &CAUSES, story);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    for (path, _) in files(&world.path("runs")) {
        assert!(path.extension().is_none_or(|ending| ending != "tmp"), "{path:?} stays: {story}: {text}");
    }
    full
}

/// Space is free again: the same command ends well.
fn resume(reference: &Reference, world: &World, story: &str) {
    let kept = world.kept();
    world.finish();
    let now = world.kept();
    assert!(kept.iter().all(|(path, file)| now.get(path) == Some(file)), "finished jobs ran again: {story}");
    reference.check(world, story);
}

/// Pages of 4 KiB that the files below a folder take.
fn pages(folder: &Path) -> u64 {
    files(folder).keys().map(|path| fs::metadata(path).unwrap().len().div_ceil(4096)).sum()
}
