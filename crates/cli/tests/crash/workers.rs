//! Workers: several processes that share a study, two of them killed in turn; and single jobs.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tarrl_tensor::Key;

use crate::kills::Hits;
use crate::world::{Reference, World, quiet, signal, succeeded};

/// Two workers at a time: both end well, and their files are those of one process.
pub(crate) fn share(reference: &Reference) {
    let world = World::new();
    let start = || quiet(&mut world.study("worker")).spawn().unwrap();
    let mut workers = [start(), start()];
    assert!(workers.iter_mut().all(|worker| worker.wait().unwrap().success()));
    reference.check(&world, "two workers");
    let claims = fs::read_dir(world.path("runs/toy/claims")).unwrap().count();
    assert!(claims > reference.jobs.len(), "{claims}: one for each job and the report, at least");
}

/// Stops one of two workers `n` times, each time at a random moment, and begins it again; in the end everything is there,
/// with the same bits, and nothing that was finished was written again. Returns how often each signal did it.
pub(crate) fn run(reference: &Reference, n: usize, key: Key) -> Hits {
    let mut hits = Hits::new();
    let mut stops = 0;
    let whole: Duration = reference.start + reference.jobs.iter().map(|job| job.took).sum::<Duration>();
    for study in 0usize.. {
        if stops >= n {
            break;
        }
        assert!(study < 20 + 10 * n, "the workers are hardly ever hit");
        let mut stream = key.fold(study).stream();
        let story = format!("study {study} of {key:?}");
        let world = World::new();
        let start = || quiet(&mut world.study("worker")).spawn().unwrap();
        let mut workers = [start(), start()];
        let began = Instant::now();
        loop {
            sleep(whole.mul_f64(f64::from(stream.unit())));
            let kept = world.kept();
            let chosen = stream.below(2);
            let name = ["KILL", "KILL", "KILL", "TERM", "INT", "USR2"][stream.below(6)];
            signal(&workers[chosen], name);
            let status = workers[chosen].wait().unwrap();
            let now = world.kept();
            let lost: Vec<_> =
                kept.iter().filter(|(path, file)| !is_log(path) && now.get(*path) != Some(file)).collect();
            assert!(lost.is_empty(), "{:?} lost or written again: {story}", lost[0].0);
            match (status.signal(), status.code()) {
                (_, Some(0)) => break,
                (Some(_), _) => {}
                (None, Some(75)) if name != "KILL" => {}
                _ => panic!("{status} after {name} in {story}"),
            }
            *hits.entry(name.to_owned()).or_default() += 1;
            stops += 1;
            assert!(began.elapsed() < Duration::from_secs(300), "{story} does not end");
            workers[chosen] = start();
            if stops >= n {
                break;
            }
        }
        for worker in &mut workers {
            let status = worker.wait().unwrap();
            assert!(status.success(), "{status} in {story}");
        }
        reference.check(&world, &story);
    }
    hits
}

/// Each job by itself, as an engine runs them: exit code 66 before its inputs are there, 75 while another holds it, 0 at its
/// end and again; the report comes with a worker that finds nothing left.
pub(crate) fn single_jobs(reference: &Reference) {
    let world = World::new();
    let listed = world.study("jobs").arg("--json").output().unwrap();
    succeeded(&listed);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let keys: Vec<&str> =
        listed["jobs"].as_array().unwrap().iter().map(|job| job["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), reference.jobs.len());
    let code = |key: &str| quiet(world.study("job").arg(key)).status().unwrap().code();
    assert_eq!(code(keys[keys.len() - 1]), Some(66));
    assert_eq!(code("no-key"), Some(1));
    for key in &keys {
        assert_eq!(code(key), Some(0), "{key}");
    }
    assert_eq!(code(&keys[0][..12]), Some(0), "again, by the beginning of the key");
    let states = succeeded_text(&world);
    assert!(states.contains(&format!("{0} jobs: {0} done", keys.len())), "{states}");
    assert!(quiet(&mut world.study("worker")).status().unwrap().success());
    reference.check(&world, "single jobs");
}

/// The other worker adds its last line to the log of a job when that is finished.
fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "log.txt")
}

fn succeeded_text(world: &World) -> String {
    let mut command = crate::world::tarrl();
    command.args(["status", "--profile", "toy", "--out"]).arg(world.path("runs"));
    let output = command.output().unwrap();
    succeeded(&output);
    String::from_utf8(output.stdout).unwrap()
}
