//! Run folders: where jobs, manifests and reports are on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::json;
use tarrl_files::remove_abandoned;

use crate::files::{cannot_write, try_write, write_atomic};
use crate::{Claims, Key, Manifest, Spec};

/// The folder of one profile, `OUT/PROFILE`, with one folder per job in `jobs`.
#[derive(Clone, Debug)]
pub struct Runs {
    root: PathBuf,
}

impl Runs {
    /// The runs of `profile` below `out`. Creates nothing.
    pub fn new(out: &Path, profile: &str) -> Self {
        Self { root: out.join(profile) }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a job, whether it exists or not.
    pub fn job(&self, key: Key) -> JobFolder {
        JobFolder { path: self.root.join("jobs").join(key.to_string()), key }
    }

    /// Creates the folder and makes sure that files can be written into it. Any number of processes may work in it, on any
    /// machines that share it: each job is claimed by the one that runs it.
    ///
    /// # Errors
    /// Fails if the folder cannot be created or written.
    pub fn open(&self) -> anyhow::Result<Claims> {
        self.open_with(Claims::HEARTBEAT)
    }

    /// As [`open`](Self::open) with another time between heartbeats; claims of other machines that do not change for six of
    /// theirs count as dead.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(&self, heartbeat: Duration) -> anyhow::Result<Claims> {
        let refused = |error| cannot_write(&self.root, "--out DIR", error);
        let claims = self.claims();
        fs::create_dir_all(self.root.join("jobs")).map_err(refused)?;
        fs::create_dir_all(&claims).map_err(refused)?;
        remove_abandoned(&claims, ".").map_err(refused)?;
        try_write(&self.root.join("probe")).map_err(refused)?;
        Ok(Claims::new(claims, heartbeat))
    }

    /// The claims as they are, for one that makes none. Creates nothing.
    pub fn watch(&self) -> Claims {
        Claims::new(self.claims(), Claims::HEARTBEAT)
    }

    /// The folder of the claims.
    pub fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }
}

/// The file to which a training adds its metrics; every other file of a job appears whole.
pub(crate) const METRICS: &str = "metrics.jsonl";

/// The folder of one job.
#[derive(Clone, Debug)]
pub struct JobFolder {
    path: PathBuf,
    key: Key,
}

/// The state of a job on disk.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Finished and whole.
    Done(Box<Manifest>),
    /// Finished once, but damaged or changed since, for the reason given; it starts afresh.
    Stale(String),
    /// Begun and not finished; it resumes from its own checkpoint, if it has one.
    Interrupted,
    /// Never begun.
    New,
}

impl JobFolder {
    /// Name of the file with the configuration that the key is the hash of.
    pub const CONFIG: &str = "config.json";
    /// Name of the log file.
    pub const LOG: &str = "log.txt";

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state and changes nothing.
    pub fn state(&self) -> State {
        match Manifest::read(&self.path, self.key) {
            Ok(Some(manifest)) => State::Done(Box::new(manifest)),
            Err(reason) => State::Stale(reason),
            Ok(None) if self.path.is_dir() => State::Interrupted,
            Ok(None) => State::New,
        }
    }

    /// The state by the manifest alone, which costs less: the files beside it are not read.
    pub(crate) fn state_unverified(&self) -> State {
        match Manifest::read_alone(&self.path, self.key) {
            Ok(Some(manifest)) => State::Done(Box::new(manifest)),
            _ => self.state(),
        }
    }

    /// Prepares the folder for the job of `spec`. Files of an interrupted run are kept, so that the job can resume, except
    /// temporary ones; a stale folder is emptied except for its log.
    ///
    /// # Errors
    /// Fails if the folder cannot be created, emptied or written.
    pub fn prepare(&self, spec: &Spec, state: &State) -> anyhow::Result<()> {
        let path = self.path.display();
        match state {
            State::Done(_) => bail!("{path} holds a finished job, which is never run again"),
            State::Stale(_) => self.clear().with_context(|| format!("cannot empty {path}"))?,
            State::Interrupted => {
                remove_abandoned(&self.path, ".").with_context(|| format!("cannot tidy {path}"))?;
                self.detach().with_context(|| format!("cannot tidy {path}"))?;
            }
            State::New => {}
        }
        fs::create_dir_all(&self.path).with_context(|| format!("cannot create {path}"))?;
        let config = serde_json::to_vec_pretty(&spec.identity())?;
        write_atomic(&self.path.join(Self::CONFIG), &config)
            .with_context(|| format!("cannot write to {path}"))
    }

    /// Whether there is a manifest, whole or not.
    pub(crate) fn has_manifest(&self) -> bool {
        self.path.join(Manifest::FILE).exists()
    }

    /// What has been done of the job, in short: another text once there are new files to resume from.
    pub(crate) fn progress(&self) -> String {
        let plain = |name: &str| [Self::CONFIG, Self::LOG, METRICS].contains(&name) || name.starts_with('.');
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(found) = entry.metadata() else { continue };
            let changed = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            if !plain(&name) {
                files.push((name, found.len(), changed.map_or(0, |since| since.as_nanos()).to_string()));
            }
        }
        files.sort();
        if files.is_empty() { String::new() } else { Key::of(&json!(files)).short() }
    }

    /// Gives the job its own copy of the file that is added to in place. A process that was given up for dead and lives may
    /// still hold the old one open.
    fn detach(&self) -> std::io::Result<()> {
        let path = self.path.join(METRICS);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => write_atomic(&path, &fs::read(&path)?),
            _ => Ok(()),
        }
    }

    /// Removes the files of a finished job that only served to resume. One that cannot be removed only takes space.
    pub(crate) fn discard(&self, scratch: &[String]) {
        for name in scratch {
            // A manifest from elsewhere does not reach beyond its folder.
            if Path::new(name).file_name().is_some_and(|plain| plain == name.as_str()) {
                let _ = fs::remove_file(self.path.join(name));
            }
        }
    }

    fn clear(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_name() != Self::LOG {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwritable_place_is_one_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = format!("{:#}", Runs::new(&file, "smoke").open().unwrap_err());
        let place = file.join("smoke");
        assert!(error.starts_with(&format!("cannot write to {}; ", place.display())), "{error}");
        assert!(error.contains("--out DIR"), "{error}");
    }

    #[test]
    fn opening_leaves_nothing_but_the_folders_of_jobs_and_claims() {
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::new(folder.path(), "smoke");
        runs.open().unwrap();
        let mut names: Vec<_> = fs::read_dir(runs.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["claims", "jobs"]);
    }
}
