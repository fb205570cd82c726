#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// Writes a file that appears whole or not at all: temporary file, sync, rename, sync of the folder.
///
/// # Errors
/// Returns the system's error; the old content of `path` is then untouched and no temporary file stays.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary(path)?;
    file.write_all(bytes)?;
    persist(file, path)
}

/// Makes sure that [`write_atomic`] can write `path`, and leaves nothing behind.
///
/// # Errors
/// Returns the system's error, also if `path` is something that a file cannot replace, such as a folder.
pub fn try_write(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is not a regular file")),
        _ => {}
    }
    temporary(path)?.write_all(b"probe")
}

/// A new file beside `path`, under a name of its own, which is removed when it is dropped; [`persist`] gives it its place.
/// What killed processes of this host left of the same `path` is removed.
///
/// # Errors
/// Returns the system's error.
pub fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    remove_abandoned(folder(path), &own(path)?)?;
    fresh(path)
}

/// How the temporary files of `path` begin on this host.
fn own(path: &Path) -> io::Result<String> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
    // File systems take names of 255 bytes, to which the rest of this one is added.
    let name: String = name.chars().take(40).collect();
    Ok(format!(".{name}.{}-", host()))
}

/// As [`temporary`], and nothing is swept.
fn fresh(path: &Path) -> io::Result<NamedTempFile> {
    let prefix = format!("{}{}-", own(path)?, std::process::id());
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private by default; an output is as readable as any other file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    loop {
        let file = builder.tempfile_in(folder(path))?;
        // The lock tells others that somebody writes it. One who was looking between creation and lock may have taken it
        // for abandoned, and then it is gone. A file system without locks protects it all the same: nothing is swept there.
        let taken = matches!(file.as_file().try_lock(), Err(fs::TryLockError::WouldBlock));
        if !taken && file.path().exists() {
            return Ok(file);
        }
    }
}

/// Gives a [`temporary`] file its place, once it is on the disk.
///
/// # Errors
/// Returns the system's error; the old content of `path` is then untouched.
pub fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself is on the disk only once the folder is; systems that cannot open a folder need no sync.
    match File::open(folder(path)) {
        Ok(folder) => folder.sync_all(),
        Err(_) => Ok(()),
    }
}

/// Writes `path` as [`write_atomic`] does, but only if there is nothing yet; of several processes that do so, on any
/// machines that share the folder, exactly one succeeds. Returns the file, with the system's lock on it until it is closed,
/// or nothing if another was first. Temporary files of killed processes are left to [`remove_abandoned`].
///
/// # Errors
/// Returns the system's error; there is then no file.
pub fn write_first(path: &Path, bytes: &[u8]) -> io::Result<Option<File>> {
    if fs::exists(path)? {
        return Ok(None);
    }
    let mut file = fresh(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(file) => {
            if let Ok(folder) = File::open(folder(path)) {
                folder.sync_all()?;
            }
            Ok(Some(file))
        }
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error.error),
    }
}

/// Removes the temporary files in `folder` whose names begin with `start` and that no process writes any more. On a file
/// system without locks none is removed.
///
/// # Errors
/// Returns the system's error, for instance if there is no such folder.
pub fn remove_abandoned(folder: &Path, start: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let named = path.file_name().and_then(|name| name.to_str());
        if named.is_some_and(|name| name.starts_with(start) && name.ends_with(".tmp")) {
            remove_if_abandoned(&path)?;
        }
    }
    Ok(())
}

fn remove_if_abandoned(path: &PathBuf) -> io::Result<()> {
    // A link is nobody's temporary file.
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let Ok(file) = File::open(path) else { return Ok(()) };
    if file.try_lock().is_err() {
        return Ok(());
    }
    match fs::remove_file(path) {
        // Another one was quicker.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The folder that `path` lies in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name of this host, where the system tells it in a file; hosts that share a disk then do not sweep each other's.
pub fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').take(64).collect();
    if plain.is_empty() { "host".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn an_atomic_write_replaces_and_a_failed_one_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.json"]);
        let taken = folder.path().join("folder");
        fs::create_dir(&taken).unwrap();
        assert!(write_atomic(&taken, b"three").is_err());
        assert!(taken.is_dir() && names(folder.path()).len() == 2, "{:?}", names(folder.path()));
    }

    #[test]
    fn a_temporary_file_is_named_after_output_host_and_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let (one, two) = (temporary(&path).unwrap(), temporary(&path).unwrap());
        assert_ne!(one.path(), two.path());
        let start = format!(".a.json.{}-{}-", host(), std::process::id());
        assert!(one.path().file_name().unwrap().to_str().unwrap().starts_with(&start), "{:?}", one.path());
    }

    #[test]
    fn a_name_as_long_as_the_file_system_takes_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ä".repeat(127));
        write_atomic(&path, b"content").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
    }

    #[test]
    fn the_next_write_removes_what_a_killed_process_of_this_host_left_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let held = temporary(&path).unwrap();
        let own = |name: &str| folder.path().join(name.replace("HOST", &host()));
        let stays =
            [".a.json.elsewhere-7-x.tmp", ".b.json.HOST-7-x.tmp", ".a.json.HOST-7-x", "a.json.HOST-7-x.tmp"];
        for name in stays {
            fs::write(own(name), "not mine").unwrap();
        }
        fs::write(own(".a.json.HOST-7-x.tmp"), "half").unwrap();
        write_atomic(&path, b"whole").unwrap();
        assert!(!own(".a.json.HOST-7-x.tmp").exists());
        assert!(
            stays.iter().all(|name| own(name).exists()) && held.path().exists(),
            "{:?}",
            names(folder.path())
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join(format!(".link.{}-7-x.tmp", host()))).unwrap();
        write_atomic(&link, b"new").unwrap();
        assert_eq!(
            (fs::read(&target).unwrap(), fs::read(&link).unwrap()),
            (b"precious".to_vec(), b"new".to_vec())
        );
    }

    #[test]
    fn of_many_first_writers_one_succeeds_and_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = folder.path().join(round.to_string());
            let writers: Vec<_> = std::thread::scope(|scope| {
                let path = &path;
                let write = |thread: u8| scope.spawn(move || write_first(path, &[thread; 100]).unwrap());
                let threads: Vec<_> = (0..8).map(write).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let won: Vec<usize> = (0..8).filter(|&thread| writers[thread].is_some()).collect();
            assert_eq!(won.len(), 1);
            assert_eq!(fs::read(&path).unwrap(), [won[0] as u8; 100]);
            assert!(File::open(&path).unwrap().try_lock().is_err());
            drop(writers);
            File::open(&path).unwrap().try_lock().unwrap();
        }
        assert_eq!(names(folder.path()).len(), 20, "no temporary file stays");
    }

    #[test]
    fn a_write_is_tried_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        try_write(&path).unwrap();
        assert_eq!(names(folder.path()), [""; 0]);
        assert_eq!(try_write(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let missing = try_write(&folder.path().join("no/such/a.json")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn many_threads_that_write_one_file_all_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::thread::scope(|scope| {
            for thread in 0..8u8 {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| write_atomic(path, &[thread; 1000]).unwrap()));
            }
        });
        let content = fs::read(&path).unwrap();
        assert!(content.len() == 1000 && content.iter().all(|byte| *byte == content[0]));
        assert_eq!(names(folder.path()), ["a.json"]);
    }
}
