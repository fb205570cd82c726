//! Crash matrix: the tests of this folder in any number, with what they hit (docs/reliability.md has the command).
#![cfg(target_os = "linux")]

mod calls;
mod disks;
mod faults;
mod kills;
mod mounts;
#[path = "../common/stripes.rs"]
mod stripes;
mod verbs;
mod workers;
mod world;

use std::process::ExitCode;

use tarrl_tensor::Key;

use crate::world::Reference;

const PARTS: [&str; 9] = [
    "--kills",
    "--full-disks",
    "--short-files",
    "--together",
    "--workers",
    "--verbs",
    "--calls",
    "--damage",
    "--read-only",
];

const USAGE: &str = "give some of --kills N, --full-disks N, --short-files N, --together N, --workers N, --verbs N, --calls EVERY, --damage and \
                     --read-only, and --seed S for other moments";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut parts, mut seed) = (Vec::new(), 0u64);
    while let Some(name) = arguments.next() {
        let n = match name.as_str() {
            "--damage" | "--read-only" => Some(0),
            _ => arguments.next().and_then(|text| text.parse::<usize>().ok()),
        };
        match (name.as_str(), n) {
            ("--seed", Some(n)) => seed = n as u64,
            (_, Some(n)) if PARTS.contains(&name.as_str()) => parts.push((name, n)),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    let reference = Reference::new();
    println!("before the first job {:.1?}, report {:.1?}", reference.start, reference.report);
    for job in &reference.jobs {
        println!("{} {:.1?}", job.kind, job.took);
    }
    for (part, n) in parts {
        let key = Key::new(seed).fold(part.as_str());
        match part.as_str() {
            "--kills" => {
                println!("{n} kills, all with the same bits in the end: {:?}", kills::run(&reference, n, key))
            }
            "--full-disks" | "--read-only" if !mounts::allowed() => {
                println!("did not run: {part}, because this machine lets no user mount a file system");
            }
            "--full-disks" => println!("{n} full disks: {:?}", disks::run(&reference, n, key)),
            "--short-files" => {
                let stops = disks::run_with_short_files(&reference, n, key);
                println!("{n} limits on the size of files, {stops} of them reached");
            }
            "--together" => {
                faults::together(&reference, n, key);
                (0..n).for_each(|_| verbs::together(&reference));
                println!("{n} times several programs at once: the same files");
            }
            "--workers" => {
                println!("{n} kills of one of two workers: {:?}", workers::run(&reference, n, key))
            }
            "--verbs" => println!("{n} kills of each verb: {:?}", verbs::run(&reference, n, key)),
            "--calls" if !calls::allowed() => {
                println!("did not run: kills before system calls, which need strace")
            }
            "--calls" => {
                let hits = calls::run(&reference, n);
                println!("{} kills before system calls: {hits:?}", hits.values().sum::<usize>());
            }
            "--damage" => {
                let [own, data] = [faults::damage(&reference, 1), faults::damage_data(&reference, 1)];
                println!("{own} files of finished jobs and {data} of the data, damaged or missing");
            }
            _ => {
                faults::read_only(&reference);
                verbs::without_space(&reference);
                println!("read-only folders, and verbs without space: one error each, nothing changed");
            }
        }
    }
    ExitCode::SUCCESS
}
