//! State files: the progress of an attack beside its output, so that an interrupted one resumes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tarrl_jobs::files::{cannot_write, write_atomic};
use tarrl_study::attack_state::{AttackProgress, AttackState};

/// The file with the progress of an attack.
pub(crate) struct StateFile {
    path: PathBuf,
    /// What determines the outcome, by name.
    about: Map<String, Value>,
    every: Duration,
    written: Instant,
}

/// The path of the state file of an attack whose outcome will be written to `output`.
pub(crate) fn beside(output: &Path) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(".state");
    path.into()
}

impl StateFile {
    /// The state file of an attack whose outcome will be written to `output`; saved at most once in `every`.
    pub(crate) fn beside(output: &Path, about: Map<String, Value>, every: Duration) -> Self {
        StateFile { path: beside(output), about, every, written: Instant::now() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What an interrupted run of the same attack left, if there was one.
    ///
    /// # Errors
    /// If the file is of another attack, or damaged.
    pub(crate) fn load(&self) -> anyhow::Result<Option<AttackProgress>> {
        let path = self.path.display();
        let found = AttackState::load(&self.path)
            .with_context(|| format!("{path} cannot be resumed; remove it to start anew"))?;
        let Some(found) = found else { return Ok(None) };
        let differs = |name: &&String| found.about.get(*name) != self.about.get(*name);
        let names: Vec<&str> = self.about.keys().filter(differs).map(String::as_str).collect();
        if !names.is_empty() {
            bail!(
                "{path} is of another attack: not the same {}; give the options of the interrupted run to go on, \
                 choose another file with --json, or remove it to start anew",
                names.join(", ")
            );
        }
        Ok(Some(found.progress))
    }

    /// Writes the state if the last one is old enough.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn save_if_due(&mut self, progress: impl FnOnce() -> AttackProgress) -> anyhow::Result<()> {
        if self.written.elapsed() < self.every { Ok(()) } else { self.save(progress()) }
    }

    /// Writes the state.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn save(&mut self, progress: AttackProgress) -> anyhow::Result<()> {
        let state = AttackState { about: self.about.clone(), progress };
        write_atomic(&self.path, &state.to_bytes())
            .map_err(|error| cannot_write(&self.path, "--json FILE", error))?;
        self.written = Instant::now();
        Ok(())
    }

    /// Removes the file, because the attack is over. Another process that ran the same attack may have done so.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub(crate) fn remove(self) -> anyhow::Result<()> {
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
    use tarrl_study::attack_state::ImageOutcome;

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
        file.save_if_due(|| AttackProgress::Images(vec![ImageOutcome::default()])).unwrap();
        assert_eq!(file.path(), folder.path().join("outcomes.json.state"));
        assert!(
            matches!(file.load().unwrap(), Some(AttackProgress::Images(images)) if images == [ImageOutcome::default()])
        );
        let refused = state(&output, 0.2).load().unwrap_err().to_string();
        assert!(refused.contains("not the same epsilon") && refused.contains("remove it"), "{refused}");
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(file.path(), text.replace("\"broken\":false", "\"broken\":true")).unwrap();
        let changed = format!("{:#}", file.load().unwrap_err());
        assert!(changed.contains("checksum") && changed.contains("remove it"), "{changed}");
        std::fs::write(file.path(), "{").unwrap();
        let damaged = format!("{:#}", file.load().unwrap_err());
        assert!(damaged.contains("outcomes.json.state") && damaged.contains("remove it"), "{damaged}");
        file.remove().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        state(&output, 0.1).remove().unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = state(&folder.path().join("missing/outcomes.json"), 0.1);
        let error = file.save(AttackProgress::Images(Vec::new())).unwrap_err().to_string();
        assert!(error.contains("missing/outcomes.json.state; choose a folder that exists"), "{error}");
    }
}
