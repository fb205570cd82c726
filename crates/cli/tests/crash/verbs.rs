//! Verbs that write files outside of run folders, killed at random moments and with a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tarrl_tensor::Key;

use crate::disks::CAUSES;
use crate::kills::Hits;
use crate::mounts::{on_read_only_disk, on_small_disk};
use crate::world::{Reference, World, failed, files, quiet, signal, succeeded, tarrl, write};

/// A command that writes into the folder `out`, and the file there that had another content before.
type Verb = (&'static str, fn(&Reference, &Path) -> Command, &'static str);

const VERBS: [Verb; 4] = [
    ("attack", |reference, out| attack(reference, out, "autoattack"), "outcomes.json"),
    ("attack by batches", |reference, out| attack(reference, out, "pgd"), "outcomes.json"),
    ("certify", certify, "small.certificates"),
    ("data import", import, "stripes/train-images"),
];

/// Content of the folder of a verb: what is in the file, by name.
type Content = BTreeMap<String, Vec<u8>>;

/// Kills each verb `n` times; in the end its files are those of a run without interruption, and no others.
pub(crate) fn run(reference: &Reference, n: usize, key: Key) -> Hits {
    let mut hits = Hits::new();
    for (name, command, old) in VERBS {
        let (expected, took) = uninterrupted(reference, command);
        let mut stops = 0;
        for round in 0usize.. {
            if stops >= n {
                break;
            }
            assert!(round < 100 + 50 * n, "{name} cannot be killed");
            let story = format!("{name}, round {round} of {key:?}");
            let mut stream = key.fold(name).fold(round).stream();
            let world = World::new();
            let out = world.path("out");
            write(&out.join(old), b"old");
            for _ in 0..=stream.below(4) {
                let before = files(&out);
                let mut child = quiet(&mut command(reference, &out)).spawn().unwrap();
                sleep(took.mul_f64(f64::from(stream.unit())));
                let with = ["KILL", "KILL", "TERM", "INT", "USR2"][stream.below(5)];
                signal(&child, with);
                let status = child.wait().unwrap();
                let stopped = status.signal().is_some() || (with != "KILL" && status.code() == Some(75));
                assert!(stopped || status.success(), "{status}: {story}");
                stops += usize::from(stopped);
                let now = content(&out);
                let (was, is) = (&before[&out.join(old)].1, &now[old]);
                assert!(is == was || *is == expected[old], "{old} is half written: {story}");
            }
            succeeded(&command(reference, &out).output().unwrap());
            let found = content(&out);
            assert!(found == expected, "{:?} are not {:?}: {story}", found.keys(), expected.keys());
        }
        hits.insert(name.to_owned(), stops);
    }
    hits
}

/// Each verb on a disk that is full, and in a folder that is read-only: one error, and the old file stays.
pub(crate) fn without_space(reference: &Reference) {
    for (name, command, old) in VERBS {
        for kilobytes in [4, 8] {
            let world = World::new();
            let out = world.path("out");
            write(&out.join(old), b"old");
            let before = files(&out);
            let output = on_small_disk(&command(reference, &out), &out, kilobytes).output().unwrap();
            failed(&output, &CAUSES, &format!("{name} on {kilobytes} kB"));
            let mut left = content(&out);
            // The progress of an attack that fitted onto the disk is whole and of use.
            left.remove("outcomes.json.state");
            assert!(left.len() == 1 && left[old] == b"old", "{name} on {kilobytes} kB: {:?}", left.keys());
            succeeded(&command(reference, &out).output().unwrap());
            fs::remove_dir_all(&out).unwrap();
            write(&out.join(old), b"old");

            let before = before.keys().collect::<Vec<_>>();
            let output = on_read_only_disk(&command(reference, &out), &out).output().unwrap();
            failed(&output, &["Read-only file system"], &format!("{name}, read-only"));
            assert!(
                files(&out).keys().collect::<Vec<_>>() == before && content(&out)[old] == b"old",
                "{name}"
            );
        }
    }
}

/// Each verb three times at once, into the same file: all end well, and the file is that of one.
pub(crate) fn together(reference: &Reference) {
    for (name, command, _) in VERBS {
        let (expected, _) = uninterrupted(reference, command);
        let world = World::new();
        let out = world.path("out");
        fs::create_dir(&out).unwrap();
        let piped =
            |mut command: Command| command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let children: Vec<_> = (0..3).map(|_| piped(command(reference, &out))).collect();
        for child in children {
            succeeded(&child.wait_with_output().unwrap());
        }
        assert!(content(&out) == expected, "{name}: {:?}", content(&out).keys());
    }
}

fn uninterrupted(reference: &Reference, command: fn(&Reference, &Path) -> Command) -> (Content, Duration) {
    let world = World::new();
    let out = world.path("out");
    fs::create_dir(&out).unwrap();
    let clock = Instant::now();
    succeeded(&command(reference, &out).output().unwrap());
    (content(&out), clock.elapsed())
}

fn content(out: &Path) -> Content {
    let name = |path: &Path| path.strip_prefix(out).unwrap().to_str().unwrap().to_owned();
    files(out).into_iter().map(|(path, (_, bytes))| (name(&path), bytes)).collect()
}

fn attack(reference: &Reference, out: &Path, kind: &str) -> Command {
    let (encoder, head) = (file(reference, "encoder.safetensors"), file(reference, "head.safetensors"));
    let mut command = with_data(
        reference,
        &["attack", "--dataset", "stripes", "--images", "8", "--save-every", "0", "--threads", "1"],
    );
    command.args(["--epsilon", "0.004", "--batch", "2", "--attack", kind, "--checkpoint"]).arg(encoder);
    command.arg("--head").arg(head).arg("--json").arg(out.join("outcomes.json"));
    command
}

fn certify(reference: &Reference, out: &Path) -> Command {
    let mut command = with_data(reference, &["certify", "--dataset", "stripes", "--samples", "12"]);
    command.arg(file(reference, "encoder.safetensors")).arg("--out").arg(out.join("small.certificates"));
    command
}

fn import(reference: &Reference, out: &Path) -> Command {
    let mut command = tarrl();
    command.args(["data", "import"]).arg(reference.world.path("datasets/stripes")).args(["--as", "stripes"]);
    command.arg("--datasets").arg(reference.world.path("datasets")).arg("--data").arg(out);
    command
}

fn with_data(reference: &Reference, arguments: &[&str]) -> Command {
    let mut command = tarrl();
    command.args(arguments);
    for folder in ["datasets", "data"] {
        command.arg(format!("--{folder}")).arg(reference.world.path(folder));
    }
    command
}

/// The file of this name that a job of the study left.
fn file(reference: &Reference, name: &str) -> std::path::PathBuf {
    let mut all = reference.jobs.iter().map(|job| reference.world.jobs().join(&job.key).join(name));
    all.find(|path| path.exists()).unwrap()
}
