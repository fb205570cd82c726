//! State files: the progress of an attack beside its output, so that an interrupted one resumes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tarrl_attacks::{Envelope, SuiteState};

use super::outcome::ImageOutcome;
use tarrl_study::files::{cannot_write, write_atomic};

/// The file with the progress of an attack.
pub(super) struct StateFile {
    path: PathBuf,
    /// What determines the outcome, by name.
    about: Map<String, Value>,
    every: Duration,
    written: Instant,
}

/// The progress of an attack.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Progress {
    /// A suite, in the middle of an image.
    Suite(SuiteState),
    /// The outcomes of the images of all finished batches.
    #[serde(rename = "rows")]
    Images(Vec<ImageOutcome>),
}

impl Progress {
    /// Images whose outcome is final.
    pub(super) fn finished(&self) -> usize {
        match self {
            Progress::Suite(state) => state.finished(),
            Progress::Images(images) => images.len(),
        }
    }
}

#[derive(Deserialize, Serialize)]
struct File {
    about: Map<String, Value>,
    progress: Progress,
}

/// The path of the state file of an attack whose outcome will be written to `output`.
pub(super) fn beside(output: &Path) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(".state");
    path.into()
}

impl StateFile {
    /// The state file of an attack whose outcome will be written to `output`; saved at most once in `every`.
    pub(super) fn beside(output: &Path, about: Map<String, Value>, every: Duration) -> Self {
        StateFile { path: beside(output), about, every, written: Instant::now() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What an interrupted run of the same attack left, if there was one.
    ///
    /// # Errors
    /// If the file is of another attack, or damaged.
    pub(super) fn load(&self) -> anyhow::Result<Option<Progress>> {
        let path = self.path.display();
        let text = match std::fs::read(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => {
                read.with_context(|| format!("cannot read {path}, the state of an interrupted attack"))?
            }
        };
        let file: Envelope<File> = serde_json::from_slice(&text)
            .with_context(|| format!("{path} is no state of an attack; remove it to start anew"))?;
        let file =
            file.open().with_context(|| format!("{path} cannot be resumed; remove it to start anew"))?;
        let differs = |name: &&String| file.about.get(*name) != self.about.get(*name);
        let names: Vec<&str> = self.about.keys().filter(differs).map(String::as_str).collect();
        if !names.is_empty() {
            bail!(
                "{path} is of another attack: not the same {}; give the options of the interrupted run to go on, \
                 choose another file with --json, or remove it to start anew",
                names.join(", ")
            );
        }
        Ok(Some(file.progress.clone()))
    }

    /// Writes the state if the last one is old enough.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn save_if_due(&mut self, progress: impl FnOnce() -> Progress) -> anyhow::Result<()> {
        if self.written.elapsed() < self.every { Ok(()) } else { self.save(progress()) }
    }

    /// Writes the state.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn save(&mut self, progress: Progress) -> anyhow::Result<()> {
        let file = Envelope::new(File { about: self.about.clone(), progress });
        write_atomic(&self.path, &serde_json::to_vec(&file)?)
            .map_err(|error| cannot_write(&self.path, "--json FILE", error))?;
        self.written = Instant::now();
        Ok(())
    }

    /// Removes the file, because the attack is over. Another process that ran the same attack may have done so.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(output: &Path, epsilon: f64) -> StateFile {
        let about = json!({"attack": "pgd", "epsilon": epsilon}).as_object().unwrap().clone();
        StateFile::beside(output, about, Duration::ZERO)
    }

    #[test]
    fn a_state_is_found_again_and_that_of_another_attack_refused() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("outcomes.json");
        let mut file = state(&output, 0.1);
        assert!(file.load().unwrap().is_none());
        file.save_if_due(|| Progress::Images(vec![ImageOutcome::default()])).unwrap();
        assert_eq!(file.path(), folder.path().join("outcomes.json.state"));
        assert!(
            matches!(file.load().unwrap(), Some(Progress::Images(images)) if images == [ImageOutcome::default()])
        );
        let refused = state(&output, 0.2).load().unwrap_err().to_string();
        assert!(refused.contains("not the same epsilon") && refused.contains("remove it"), "{refused}");
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(file.path(), text.replace("\"broken\":false", "\"broken\":true")).unwrap();
        let changed = format!("{:#}", file.load().unwrap_err());
        assert!(changed.contains("checksum") && changed.contains("remove it"), "{changed}");
        std::fs::write(file.path(), "{").unwrap();
        let damaged = file.load().unwrap_err().to_string();
        assert!(damaged.contains("outcomes.json.state") && damaged.contains("remove it"), "{damaged}");
        file.remove().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        state(&output, 0.1).remove().unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = state(&folder.path().join("missing/outcomes.json"), 0.1);
        let error = file.save(Progress::Images(Vec::new())).unwrap_err().to_string();
        assert!(error.contains("missing/outcomes.json.state; choose a folder that exists"), "{error}");
    }
}
