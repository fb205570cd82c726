//! Job manifests: the record that makes a job finished.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tarrl_data::read_at_most;
use tarrl_files::write_first;

use crate::Key;
use crate::files::{digest, write_atomic};

/// What a finished job leaves behind, written last. Its presence, whole and in agreement with the files beside it,
/// is what "finished" means.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Address of the job.
    pub key: Key,
    /// Its name when it ran.
    pub name: String,
    /// Its stage.
    pub kind: String,
    /// The result that other jobs and the report use.
    pub output: Value,
    /// The files that it wrote.
    pub files: Vec<FileRecord>,
    /// Names of files that only served to resume. They are removed once this is on the disk, so that a crash in between
    /// does not cost what they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scratch: Vec<String>,
    /// Wall time of the last session that worked on it.
    pub seconds: f64,
    /// Whether an earlier session had begun it, in which case `seconds` is not the whole cost.
    pub resumed: bool,
    /// Highest resident memory of the process while it ran, where the system tells.
    pub peak_rss_bytes: Option<u64>,
    /// Most of the device's own memory that was in use while it ran; nothing where arrays are memory of the process.
    #[serde(default)]
    pub peak_device_bytes: Option<u64>,
    /// End of the job, in seconds since 1970.
    pub finished_unix: u64,
    /// Versions and machine.
    pub provenance: Value,
}

/// The longest manifest that is read.
const MOST_BYTES: u64 = 1 << 28;

/// One output file as it was when the job finished.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Path inside the job's folder.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// BLAKE3 of the content, in hexadecimal.
    pub blake3: String,
}

/// The file as it stands on disk: the manifest and the key of the manifest's own JSON.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    checksum: Key,
    manifest: Value,
}

impl Manifest {
    /// Name of the file in a job's folder.
    pub const FILE: &str = "manifest.json";

    /// Writes the manifest into `folder`: it appears whole or not at all, even if the machine stops in between.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        write_atomic(&folder.join(Self::FILE), &self.sealed()?)
    }

    /// As [`write`](Self::write), unless there is a manifest already: the first one of a job stays. Returns whether this was it.
    ///
    /// # Errors
    /// Returns the system's error.
    pub(crate) fn write_first(&self, folder: &Path) -> io::Result<bool> {
        Ok(write_first(&folder.join(Self::FILE), &self.sealed()?)?.is_some())
    }

    fn sealed(&self) -> io::Result<Vec<u8>> {
        let manifest = serde_json::to_value(self)?;
        let sealed = Sealed { checksum: Key::of(&manifest), manifest };
        Ok(serde_json::to_vec_pretty(&sealed)?)
    }

    /// Reads the manifest of the job `key` and compares it with the files in `folder`.
    /// Returns `None` if there is no manifest.
    ///
    /// # Errors
    /// Returns the reason, as half a sentence, why the job does not count as finished.
    pub fn read(folder: &Path, key: Key) -> Result<Option<Self>, String> {
        let found = Self::read_alone(folder, key)?;
        for record in found.iter().flat_map(|manifest| &manifest.files) {
            record.verify(folder)?;
        }
        Ok(found)
    }

    /// As [`read`](Self::read), and the files beside it are not looked at.
    pub(crate) fn read_alone(folder: &Path, key: Key) -> Result<Option<Self>, String> {
        let text = match read_at_most(&folder.join(Self::FILE), MOST_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}", Self::FILE)),
        };
        let damaged = |why: &dyn std::fmt::Display| format!("{} is cut off or damaged ({why})", Self::FILE);
        let sealed: Sealed = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
        if Key::of(&sealed.manifest) != sealed.checksum {
            return Err(damaged(&"its checksum does not fit"));
        }
        let manifest: Self = serde_json::from_value(sealed.manifest).map_err(|error| damaged(&error))?;
        if manifest.key != key {
            return Err(format!("{} belongs to another job, {}", Self::FILE, manifest.key));
        }
        let paths = manifest.files.iter().map(|record| &record.path).chain(&manifest.scratch);
        for path in paths {
            if !is_inside(path) {
                return Err(format!(
                    "{} names `{path}`, which is no path inside of the job's folder",
                    Self::FILE
                ));
            }
        }
        Ok(Some(manifest))
    }
}

/// Whether a path leads to something in the folder that it is joined to: what it names is read, or removed.
fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

impl FileRecord {
    /// Records `folder/path` and makes sure that it is on the disk.
    ///
    /// # Errors
    /// Returns the system's error, for instance because the file is missing.
    pub fn take(folder: &Path, path: &str) -> io::Result<Self> {
        let file = File::open(folder.join(path))?;
        file.sync_all()?;
        let (bytes, blake3) = digest(file)?;
        Ok(Self { path: path.to_owned(), bytes, blake3 })
    }

    fn verify(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(&self.path);
        // What is no file, such as a pipe, may never end.
        let file = |found: fs::Metadata| match found.is_file() {
            true if found.len() == self.bytes => File::open(&path).and_then(digest),
            true => Ok((found.len(), String::new())),
            false => Err(io::Error::other("it is no file")),
        };
        match fs::metadata(&path).and_then(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("{} is missing", self.path)),
            Err(error) => Err(format!("{} cannot be read: {error}", self.path)),
            Ok((bytes, _)) if bytes != self.bytes => {
                Err(format!("{} has {bytes} bytes instead of {}", self.path, self.bytes))
            }
            Ok((_, blake3)) if blake3 != self.blake3 => {
                Err(format!("{} has changed since it was written", self.path))
            }
            Ok(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(folder: &Path) -> Manifest {
        fs::write(folder.join("checkpoint.bin"), b"weights").unwrap();
        Manifest {
            key: Key::of(&json!("job")),
            name: "simclr, seed 0".into(),
            kind: "pretrain".into(),
            output: json!({"loss": 0.1 + 0.2}),
            files: vec![FileRecord::take(folder, "checkpoint.bin").unwrap()],
            scratch: Vec::new(),
            seconds: 1.0 / 3.0,
            resumed: false,
            peak_rss_bytes: Some(1 << 30),
            peak_device_bytes: None,
            finished_unix: 1_800_000_000,
            provenance: json!({"version": "0.1.0"}),
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(folder.path());
        assert_eq!(Manifest::read(folder.path(), manifest.key), Ok(None));
        manifest.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path(), manifest.key), Ok(Some(manifest)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the manifest and its file");
    }

    #[test]
    fn no_cut_and_no_flipped_digit_goes_unnoticed() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(folder.path());
        manifest.write(folder.path()).unwrap();
        let path = folder.path().join(Manifest::FILE);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = Manifest::read(folder.path(), manifest.key).unwrap_err();
            assert!(error.starts_with("manifest.json is cut off or damaged"), "{length}: {error}");
        }
        for place in (0..whole.len()).filter(|&i| whole[i].is_ascii_digit()) {
            let mut changed = whole.clone();
            changed[place] = if changed[place] == b'1' { b'2' } else { b'1' };
            fs::write(&path, &changed).unwrap();
            assert!(Manifest::read(folder.path(), manifest.key).is_err(), "digit {place}");
        }
    }

    #[test]
    fn output_files_are_compared_by_presence_size_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(folder.path());
        manifest.write(folder.path()).unwrap();
        let file = folder.path().join("checkpoint.bin");
        let error = || Manifest::read(folder.path(), manifest.key).unwrap_err();
        fs::write(&file, b"weight").unwrap();
        assert_eq!(error(), "checkpoint.bin has 6 bytes instead of 7");
        fs::write(&file, b"weighty").unwrap();
        assert_eq!(error(), "checkpoint.bin has changed since it was written");
        fs::remove_file(&file).unwrap();
        assert_eq!(error(), "checkpoint.bin is missing");
    }

    /// Files of a manifest are read to their end, so a path to a device would never come back.
    #[test]
    fn files_outside_of_the_folder_and_what_is_no_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let good = manifest(folder.path());
        fs::create_dir(folder.path().join("sub")).unwrap();
        for (path, cause) in [
            ("../checkpoint.bin", "no path inside"),
            ("/dev/zero", "no path inside"),
            ("./../x", "no path inside"),
            ("", "no path inside"),
            ("sub", "it is no file"),
        ] {
            let record = FileRecord { path: path.into(), ..good.files[0].clone() };
            Manifest { files: vec![record], ..good.clone() }.write(folder.path()).unwrap();
            let error = Manifest::read(folder.path(), good.key).unwrap_err();
            assert!(error.contains(cause) && error.contains(path), "{path}: {error}");
        }
        // Files that served to resume are removed.
        Manifest { scratch: vec!["../other/checkpoint".into()], ..good.clone() }
            .write(folder.path())
            .unwrap();
        let error = Manifest::read(folder.path(), good.key).unwrap_err();
        assert!(error.contains("`../other/checkpoint`, which is no path inside"), "{error}");
    }

    #[test]
    fn the_manifest_of_another_job_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        manifest(folder.path()).write(folder.path()).unwrap();
        assert!(Manifest::read(folder.path(), Key::of(&json!("other"))).unwrap_err().contains("another job"));
    }
}
