//! Run locks: one process per run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::files::cannot_write;

/// Holds `folder/lock` until it is dropped or the process ends.
///
/// The operating system releases the lock when the process ends, however it ends, so a file left by a killed run never
/// blocks the next one; the process number in it is for people.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// The error of a folder that another process works in; it is free when that process has ended.
#[derive(Debug, thiserror::Error)]
#[error(
    "another run{} is writing to {}; wait for it, stop it, or choose another folder with --out DIR",
    holder.as_ref().map_or(String::new(), |process| format!(" (process {process})")),
    folder.display()
)]
pub struct LockHeld {
    /// The folder.
    pub folder: PathBuf,
    /// The number of the other process, where the system lets others read it.
    pub holder: Option<String>,
}

impl Lock {
    /// Takes the lock of `folder`.
    ///
    /// # Errors
    /// Fails at once, without waiting: with [`LockHeld`] if another process holds it, and if the file system has no locks.
    pub fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("lock");
        if std::fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            bail!("{} is a link or no file, which no run leaves there; remove it", path.display());
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| cannot_write(&path, "--out DIR", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Some systems do not let others read a locked file; the message then does without the number.
                let _ = file.read_to_string(&mut holder);
                let holder = Some(holder.trim().to_owned()).filter(|holder| !holder.is_empty());
                return Err(LockHeld { folder: folder.to_path_buf(), holder }.into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| {
                    format!("cannot lock {}; choose a folder on a local disk with --out DIR", path.display())
                });
            }
        }
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()))
            .map_err(|error| cannot_write(&path, "--out DIR", error))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would do; a failure to unlock leaves nothing that the end of the process does not undo.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_refused_and_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err();
        assert!(error.is::<LockHeld>());
        let error = error.to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        drop(held);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn the_file_of_a_dead_run_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lock"), "4294967294 and some longer rubbish\n").unwrap();
        let _lock = Lock::take(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("lock")).unwrap();
        assert!(Lock::take(folder.path()).unwrap_err().to_string().contains("remove it"));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    }
}
