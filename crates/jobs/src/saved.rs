//! Saved progress: what a job stores in the middle of its work, sealed with a checksum and the key of the job.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tarrl_data::read_at_most;

use crate::Key;
use crate::files::write_atomic;

/// The progress of a job on disk, with the job's key and a checksum.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    job: Key,
    checksum: Key,
    progress: Value,
}

/// The longest file that is read.
const MOST_BYTES: u64 = 1 << 30;

impl Saved {
    /// Writes the progress of a job: the file appears whole or not at all.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn write<T: Serialize>(path: &Path, job: Key, progress: &T) -> io::Result<()> {
        let progress = serde_json::to_value(progress)?;
        let saved = Self { job, checksum: Key::of(&progress), progress };
        write_atomic(path, &serde_json::to_vec(&saved)?)
    }

    /// Reads the progress of `job`, or nothing if there is no file.
    ///
    /// # Errors
    /// Returns the reason, as half a sentence, why the file cannot be used.
    pub fn read<T: DeserializeOwned>(path: &Path, job: Key) -> Result<Option<T>, String> {
        let text = match read_at_most(path, MOST_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("it cannot be read: {error}")),
        };
        let saved: Self = serde_json::from_slice(&text).map_err(|error| format!("it is damaged: {error}"))?;
        if saved.job != job {
            return Err(format!("it belongs to another job, {}", saved.job));
        }
        if Key::of(&saved.progress) != saved.checksum {
            return Err("its checksum does not fit".to_owned());
        }
        let progress = serde_json::from_value(saved.progress);
        progress.map(Some).map_err(|error| format!("it has another form: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn progress_comes_back_and_what_is_damaged_or_of_another_job_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress.json");
        let (job, other) = (Key::of(&json!("job")), Key::of(&json!("other")));
        assert_eq!(Saved::read::<Vec<f64>>(&path, job), Ok(None));
        let progress = vec![0.1, 1.0 / 3.0, -0.0];
        Saved::write(&path, job, &progress).unwrap();
        assert_eq!(Saved::read(&path, job), Ok(Some(progress)));
        assert!(Saved::read::<Vec<f64>>(&path, other).unwrap_err().contains("another job"));
        assert!(Saved::read::<String>(&path, job).unwrap_err().contains("another form"));
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(Saved::read::<Vec<f64>>(&path, job).is_err(), "{cut}");
        }
        let changed = String::from_utf8(whole).unwrap().replace("0.1", "0.2");
        std::fs::write(&path, changed).unwrap();
        assert_eq!(Saved::read::<Vec<f64>>(&path, job).unwrap_err(), "its checksum does not fit");
    }
}
