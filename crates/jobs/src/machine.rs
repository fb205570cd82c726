//! Provenance: version, compiler and machine of a run, and the memory of the process.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tarrl_tensor::Device;

/// What a manifest records about versions and machine, so that a figure can be traced: version and commit of this
/// project, compiler, processor, device of the tensors and memory. What cannot be found out is `null`.
pub fn provenance(root: &Path, device: &str) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": commit(root),
        "rustc": stdout(Command::new("rustc").arg("--version")),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cpu": field("/proc/cpuinfo", "model name"),
        "device": device,
        "memory_bytes": kibibytes("/proc/meminfo", "MemTotal"),
    })
}

/// [`provenance`] with what the backend of `device` says of itself: instruction set, or versions of driver and libraries.
pub fn provenance_on(root: &Path, device: &Device) -> Value {
    let mut value = provenance(root, &device.name());
    value["backend"] = device.facts().into_iter().map(|(name, fact)| (name, json!(fact))).collect();
    value
}

/// Bytes of memory that programs could take now, where the system says so.
pub fn available_memory() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable")
}

/// Highest resident memory of this process in bytes, since its start or since [`reset_peak_rss`].
pub fn peak_rss() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM")
}

/// Makes [`peak_rss`] start anew, where the system can do so.
pub fn reset_peak_rss() {
    // Where this is not allowed the peak is that of the whole process so far, which is still an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn commit(root: &Path) -> Option<String> {
    let git = || {
        let mut command = Command::new("git");
        command.arg("-C").arg(root);
        command
    };
    let commit = stdout(git().args(["rev-parse", "--short=12", "HEAD"]))?;
    let changed = stdout(git().args(["status", "--porcelain"])).is_some_and(|changes| !changes.is_empty());
    Some(if changed { format!("{commit} with changes") } else { commit })
}

fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn kibibytes(file: &str, name: &str) -> Option<u64> {
    field(file, name)?.split_whitespace().next()?.parse::<u64>().ok().map(|number| number * 1024)
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = |line: &str| {
        line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, v)| v.trim().to_owned())
    };
    text.lines().find_map(value)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn the_peak_covers_what_was_touched() {
        reset_peak_rss();
        let block = vec![1_u8; 64 << 20];
        assert!(block.iter().step_by(4096).all(|&byte| byte == 1));
        assert!(peak_rss().unwrap() >= 64 << 20);
    }

    #[test]
    fn there_is_memory_but_not_all_of_it() {
        let available = available_memory().unwrap();
        assert!(available > 0 && available < kibibytes("/proc/meminfo", "MemTotal").unwrap());
    }

    #[test]
    fn the_provenance_names_version_and_machine() {
        let provenance = provenance(Path::new("/"), "a device");
        assert_eq!(provenance["version"], env!("CARGO_PKG_VERSION"));
        assert!(provenance["memory_bytes"].as_u64().unwrap() > 0);
        assert_eq!(provenance["device"], "a device");
        assert_eq!(provenance["commit"], Value::Null);
        let device = tarrl_tensor::Cpu { threads: 3, ..Default::default() }.open();
        let backend = &provenance_on(Path::new("/"), &device)["backend"];
        assert_eq!(backend["threads"], "3");
        assert!(backend["instruction set"].as_str().is_some_and(|set| !set.is_empty()), "{backend}");
    }
}
