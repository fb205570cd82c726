//! Output files: atomic writes, advice when a write fails, and content hashes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Writes a file that appears whole or not at all: temporary file, sync, rename, sync of the folder.
///
/// # Errors
/// Returns the system's error; the old content of `path` is then untouched and no temporary file stays.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself is on the disk only once the folder is; systems that cannot open a folder need no sync.
    match File::open(folder(path)) {
        Ok(folder) => folder.sync_all(),
        Err(_) => Ok(()),
    }
}

/// Makes sure that [`write_atomic`] can write `path`, and leaves nothing behind.
///
/// # Errors
/// Returns the system's error, also if `path` is something that a file cannot replace, such as a folder.
pub fn try_write(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is not a regular file")),
        _ => {}
    }
    temporary(path)?.write_all(b"probe")
}

/// A new file beside `path`, under a name of its own, which is removed when it is dropped. It is locked, so that
/// [`is_abandoned`] tells it from what a killed process left behind.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(format!(".{}-", std::process::id()));
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private by default; an output is as readable as any other file.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder(path))?;
    // A file system without locks only loses the protection against a sweep.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Whether `path` is a temporary file that no process writes any more.
pub(crate) fn is_abandoned(path: &Path) -> bool {
    let temporary = path.extension().is_some_and(|ending| ending == "tmp");
    let regular = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let held = || {
        File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    };
    temporary && regular && !held()
}

/// The folder that `path` lies in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The error of a failed write of `path`, with the remedy; `option` is what chooses another place.
pub fn cannot_write(path: &Path, option: &str, error: io::Error) -> anyhow::Error {
    use io::ErrorKind::{
        IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    let remedy = match error.kind() {
        StorageFull | QuotaExceeded => format!(
            "the disk of {} is full; free some space on it, or choose another disk with {option}",
            folder(path).display()
        ),
        NotFound => format!("choose a folder that exists with {option}"),
        NotADirectory => format!("choose a place whose parents are folders with {option}"),
        IsADirectory => format!("it is a folder; name a file with {option}"),
        PermissionDenied | ReadOnlyFilesystem => {
            format!("make it writable, or choose another place with {option}")
        }
        _ => format!("choose another place with {option}"),
    };
    anyhow::Error::new(error).context(format!("cannot write to {}; {remedy}", path.display()))
}

/// Number of bytes and BLAKE3, in hexadecimal, of what `file` holds.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn digest(mut file: File) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((bytes, hasher.finalize().to_hex().to_string())),
            n => {
                hasher.update(&chunk[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// BLAKE3 of a file, in hexadecimal: what certificates and heads name their encoder by.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn hash(path: &Path) -> anyhow::Result<String> {
    let found = File::open(path).and_then(digest);
    let unreadable = || format!("cannot read {}; check the path", path.display());
    Ok(anyhow::Context::with_context(found, unreadable)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
    fn a_temporary_file_has_a_name_of_its_own_with_the_process_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let (one, two) = (temporary(&path).unwrap(), temporary(&path).unwrap());
        assert_ne!(one.path(), two.path());
        let start = format!(".a.json.{}-", std::process::id());
        assert!(one.path().file_name().unwrap().to_str().unwrap().starts_with(&start), "{:?}", one.path());
    }

    #[test]
    fn only_temporary_files_that_nobody_writes_are_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        let held = temporary(&folder.path().join("a.json")).unwrap();
        assert!(!is_abandoned(held.path()));
        let left = folder.path().join(".a.json.7-x.tmp");
        fs::write(&left, "half").unwrap();
        assert!(is_abandoned(&left));
        fs::write(folder.path().join("a.json"), "whole").unwrap();
        assert!(!is_abandoned(&folder.path().join("a.json")));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_atomic(&link, b"new").unwrap();
        assert_eq!(
            (fs::read(&target).unwrap(), fs::read(&link).unwrap()),
            (b"precious".to_vec(), b"new".to_vec())
        );
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
    fn the_advice_after_a_failed_write_fits_its_cause() {
        let advice = |kind: io::ErrorKind| {
            cannot_write(Path::new("out/a.json"), "--json FILE", kind.into()).to_string()
        };
        let full = advice(io::ErrorKind::StorageFull);
        assert!(full.contains("the disk of out is full") && full.contains("--json FILE"), "{full}");
        assert!(advice(io::ErrorKind::NotFound).contains("choose a folder that exists"));
        assert!(advice(io::ErrorKind::PermissionDenied).contains("make it writable"));
    }
}
