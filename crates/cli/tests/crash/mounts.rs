//! Full and read-only file systems for one command, in a mount namespace of its own, so that nothing stays mounted.

use std::path::Path;
use std::process::Command;

/// Whether this machine lets a process mount file systems in a namespace of its own.
pub(crate) fn allowed() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let probe = namespace("mount -t tmpfs -o size=64k none \"$1\"").arg(folder.path()).output();
    probe.is_ok_and(|output| output.status.success())
}

/// `command` where `folder` is on a disk of `kilobytes` that holds what is in the folder now. Afterwards the folder has
/// what the command left on that disk.
pub(crate) fn on_small_disk(command: &Command, folder: &Path, kilobytes: u64) -> Command {
    let script = r#"
        folder=$1 size=$2; shift 2
        copy=$(mktemp -d)
        cp -a "$folder/." "$copy" && mount -t tmpfs -o "size=${size}k" none "$folder" && cp -a "$copy/." "$folder" || exit 99
        PATH= "$@"
        code=$?
        rm -rf "$copy" && mkdir "$copy" && cp -a "$folder/." "$copy" && umount "$folder" || exit 99
        find "$folder" -mindepth 1 -delete && cp -a "$copy/." "$folder" && rm -rf "$copy" || exit 99
        exit $code"#;
    within(namespace(script).arg(folder).arg(kilobytes.to_string()), command)
}

/// `command` where `folder` cannot be written to.
pub(crate) fn on_read_only_disk(command: &Command, folder: &Path) -> Command {
    let script = r#"
        mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 99
        shift
        PATH= exec "$@""#;
    within(namespace(script).arg(folder), command)
}

/// `command` where no file can grow beyond `blocks` of 512 bytes; unlike a full disk it needs no mount.
pub(crate) fn with_short_files(command: &Command, blocks: u64) -> Command {
    let mut shell = Command::new("/bin/sh");
    // The signal would kill the program; ignored, the write fails as on a full disk.
    shell
        .args(["-c", r#"trap "" XFSZ; ulimit -f "$1"; shift; PATH= exec "$@""#, "sh"])
        .arg(blocks.to_string());
    within(&mut shell, command)
}

fn namespace(script: &str) -> Command {
    let mut shell = Command::new("unshare");
    shell.args(["--map-root-user", "--mount", "/bin/sh", "-c", script, "sh"]);
    shell
}

fn within(shell: &mut Command, command: &Command) -> Command {
    let mut all = Command::new(shell.get_program());
    all.args(shell.get_args()).arg(command.get_program()).args(command.get_args());
    all
}
