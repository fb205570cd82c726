//! An attack written down beside its output, so that an interrupted one goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tarrl_attacks::SuiteState;

use super::work::Row;
use tarrl_study::jobs::write_atomic;

/// Where an attack writes down how far it is.
pub(super) struct Notebook {
    path: PathBuf,
    /// What the attack is of, name by name.
    about: Map<String, Value>,
    every: Duration,
    written: Instant,
}

/// How far an attack is.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Progress {
    /// A suite, in the middle of it.
    Suite(SuiteState),
    /// What became of the images of all finished batches.
    Rows(Vec<Row>),
}

impl Progress {
    /// Images whose fate is known.
    pub(super) fn finished(&self) -> usize {
        match self {
            Progress::Suite(state) => state.finished(),
            Progress::Rows(rows) => rows.len(),
        }
    }
}

#[derive(Deserialize, Serialize)]
struct File {
    about: Map<String, Value>,
    progress: Progress,
}

impl Notebook {
    /// The notebook of an attack whose outcome will be written to `output`.
    pub(super) fn beside(output: &Path, about: Map<String, Value>, every: Duration) -> Self {
        let mut path = output.as_os_str().to_owned();
        path.push(".state");
        Notebook { path: path.into(), about, every, written: Instant::now() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What an interrupted run of the same attack left, if there was one.
    ///
    /// # Errors
    /// If the file is of another attack, or damaged.
    pub(super) fn open(&self) -> anyhow::Result<Option<Progress>> {
        let path = self.path.display();
        let text = match std::fs::read(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => {
                read.with_context(|| format!("cannot read {path}, the state of an interrupted attack"))?
            }
        };
        let file: File = serde_json::from_slice(&text)
            .with_context(|| format!("{path} is no state of an attack; remove it to start anew"))?;
        let differs = |name: &&String| file.about.get(*name) != self.about.get(*name);
        let names: Vec<&str> = self.about.keys().filter(differs).map(String::as_str).collect();
        if !names.is_empty() {
            bail!(
                "{path} is of another attack: not the same {}; give the options of the interrupted run to go on, \
                 choose another file with --json, or remove it to start anew",
                names.join(", ")
            );
        }
        Ok(Some(file.progress))
    }

    /// Writes the state down if that was long ago.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn note(&mut self, progress: impl FnOnce() -> Progress) -> anyhow::Result<()> {
        if self.written.elapsed() < self.every { Ok(()) } else { self.write(progress()) }
    }

    /// Writes the state down.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn write(&mut self, progress: Progress) -> anyhow::Result<()> {
        let file = File { about: self.about.clone(), progress };
        write_atomic(&self.path, &serde_json::to_vec(&file)?)
            .with_context(|| format!("cannot write {}; choose a folder that exists", self.path.display()))?;
        self.written = Instant::now();
        Ok(())
    }

    /// The attack is over.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub(super) fn close(self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn notebook(output: &Path, epsilon: f64) -> Notebook {
        let about = json!({"attack": "pgd", "epsilon": epsilon}).as_object().unwrap().clone();
        Notebook::beside(output, about, Duration::ZERO)
    }

    #[test]
    fn a_state_is_found_again_and_that_of_another_attack_refused() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("outcomes.json");
        let mut notes = notebook(&output, 0.1);
        assert!(notes.open().unwrap().is_none());
        notes.note(|| Progress::Rows(vec![Row::default()])).unwrap();
        assert_eq!(notes.path(), folder.path().join("outcomes.json.state"));
        assert!(matches!(notes.open().unwrap(), Some(Progress::Rows(rows)) if rows == [Row::default()]));
        let refused = notebook(&output, 0.2).open().unwrap_err().to_string();
        assert!(refused.contains("not the same epsilon") && refused.contains("remove it"), "{refused}");
        std::fs::write(notes.path(), "{").unwrap();
        let damaged = notes.open().unwrap_err().to_string();
        assert!(damaged.contains("outcomes.json.state") && damaged.contains("remove it"), "{damaged}");
        notes.close().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let mut notes = notebook(&folder.path().join("missing/outcomes.json"), 0.1);
        let error = notes.write(Progress::Rows(Vec::new())).unwrap_err().to_string();
        assert!(error.contains("missing/outcomes.json.state; choose a folder that exists"), "{error}");
    }
}
