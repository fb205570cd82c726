//! Kills at every system call that changes files, with the fault injection of strace (`inject=CALL:signal=KILL:when=N`).

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::kills::Hits;
use crate::world::{Reference, World, quiet};

/// The calls by which the program changes files, on one architecture or the other. The kill comes before the call.
const CALLS: [&str; 13] = [
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "ftruncate",
    "fsync",
    "fdatasync",
    "open",
    "openat",
    "write",
];

/// Whether strace is installed and may trace here.
pub(crate) fn allowed() -> bool {
    let traced = quiet(Command::new("strace").args(["-f", "-o", "/dev/null", "true"])).status();
    traced.is_ok_and(|status| status.success())
}

/// Kills the study before the first, the second, … of each call until it ends unharmed; after each the study runs again
/// and has the same bits. Returns how many there were of each call. `every` leaves out all but one in so many.
pub(crate) fn run(reference: &Reference, every: usize) -> Hits {
    let mut hits = Hits::new();
    for call in CALLS {
        for nth in (1..).step_by(every) {
            let world = World::new();
            let study = world.reproduce();
            let mut strace = Command::new("strace");
            strace.args(["-f", "-o", "/dev/null", "-E", "PATH=", "-e"]).arg(format!("trace=?{call}"));
            strace.arg("-e").arg(format!("inject=?{call}:signal=KILL:when={nth}"));
            let status = quiet(strace.arg(study.get_program()).args(study.get_args())).status().unwrap();
            let story = format!("a kill before {call} {nth}");
            if status.signal().is_none() {
                assert!(status.success(), "{status} instead of {story}");
                break;
            }
            *hits.entry(call.to_owned()).or_default() += 1;
            let kept = world.kept();
            world.finish();
            let now = world.kept();
            assert!(
                kept.iter().all(|(path, file)| now.get(path) == Some(file)),
                "finished jobs ran again: {story}"
            );
            reference.check(&world, &story);
        }
    }
    hits
}
