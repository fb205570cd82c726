//! Crash matrix: the tests of this folder in any number, with what they hit (docs/reliability.md has the command).
#![cfg(target_os = "linux")]

mod disks;
mod faults;
mod kills;
mod mounts;
mod verbs;
mod world;

use tarrl_tensor::Key;

use crate::world::Reference;

const USAGE: &str = "give --kills N, --full-disks N, --short-files N, --together N, --verbs N, --damage or --read-only, and \
                     --seed S for other moments";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut parts, mut seed) = (Vec::new(), 0u64);
    while let Some(name) = arguments.next() {
        let mut number =
            || arguments.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{USAGE}"));
        match name.as_str() {
            "--seed" => seed = number() as u64,
            "--damage" | "--read-only" => parts.push((name, 0)),
            "--kills" | "--full-disks" | "--short-files" | "--together" | "--verbs" => {
                let n: usize = number();
                parts.push((name, n));
            }
            _ => panic!("{USAGE}"),
        }
    }
    assert!(
        mounts::allowed(),
        "full disks need the right to mount in a namespace (unshare --map-root-user --mount)"
    );
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
            "--full-disks" => println!("{n} full disks: {:?}", disks::run(&reference, n, key)),
            "--short-files" => {
                let stops = disks::run_with_short_files(&reference, n, key);
                println!("{n} limits on the size of files, {stops} of them reached");
            }
            "--together" => {
                let turned_away = faults::together(&reference, n, key);
                println!("{n} times several programs in one folder, {turned_away} of them turned away");
            }
            "--verbs" => println!("{n} kills of each verb: {:?}", verbs::run(&reference, n, key)),
            "--damage" => println!("{} damaged or missing files", faults::damage(&reference, 1)),
            _ => {
                faults::read_only(&reference);
                verbs::without_space(&reference);
                println!("read-only folders, and verbs without space: one error each, nothing changed");
            }
        }
    }
}
