//! Errors of a training.

use crate::config::ConfigError;
use crate::train_config::SettingError;
use std::io;
use std::path::{Path, PathBuf};
use tarrl_encoders::checkpoint::CheckpointError;
use tarrl_parallel::ParallelError;

/// Why a training ended early. Every message names the place, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file of settings could not be used.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// Settings are invalid, alone or together.
    #[error("the training cannot begin: {0}")]
    Setting(#[from] SettingError),
    /// Images cannot be prepared.
    #[error("the training cannot begin: {0}")]
    Data(#[from] tarrl_data::Error),
    /// The folder of the run could not be read or written.
    #[error("{}: cannot {action}: {source}; {remedy}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A checkpoint could not be written.
    #[error("{0}")]
    Save(CheckpointError),
    /// A checkpoint is there but cannot be used.
    #[error("{source}; to begin this training anew, delete {}", source.path().display())]
    Resume {
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A checkpoint is whole but belongs to another training.
    #[error(
        "checkpoint {}: {cause}; choose another folder, restore the old settings, or delete the file to begin anew",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        cause: String,
    },
    /// The ranks of the training ended together.
    #[error(
        "{source} (after step {step}{})",
        checkpoint.as_ref().map_or(String::new(), |p| format!(", which is in the checkpoint: {}", p.display()))
    )]
    Parallel {
        /// Why.
        source: ParallelError,
        /// Finished steps.
        step: u64,
        /// The checkpoint of that step, if this process wrote one.
        checkpoint: Option<PathBuf>,
    },
    /// The representation has collapsed, and [`Options::stop_on_collapse`](crate::Options) asks to stop then.
    #[error(
        "training stopped after step {step} (epoch {epoch}) by {name}: {message}; begin anew in an empty folder, or \
         turn stop-on-collapse off{}",
        checkpoint.as_ref().map_or(String::new(), |p| format!(" (the checkpoint before is kept: {})", p.display()))
    )]
    Collapsed {
        /// Finished steps.
        step: u64,
        /// The epoch, from 0.
        epoch: u64,
        /// The name of the warning.
        name: String,
        /// The observation and the remedy.
        message: String,
        /// The checkpoint that is left, if there is one.
        checkpoint: Option<PathBuf>,
    },
    /// A loss or a gradient is no longer a finite number.
    #[error(
        "training diverged in step {step} (epoch {epoch}): the {what} is {value}; {}; lower optimizer.lr or \
         lengthen warmup_epochs{} and begin anew in an empty folder{}",
        last.map_or("no loss was finite before".into(), |loss| format!("the last finite loss was {loss}")),
        remedy.map_or(String::new(), |remedy| format!(", or {remedy},")),
        checkpoint.as_ref().map_or(String::new(), |p| format!(" (the last good checkpoint is kept: {})", p.display()))
    )]
    Diverged {
        /// The step, from 0.
        step: u64,
        /// The epoch, from 0.
        epoch: u64,
        /// Which quantity.
        what: String,
        /// What it is instead of a finite number.
        value: f64,
        /// What else to change, as the objective says.
        remedy: Option<&'static str>,
        /// The loss of the step before.
        last: Option<f64>,
        /// The checkpoint that is left, if there is one.
        checkpoint: Option<PathBuf>,
    },
}

impl TrainError {
    /// An error of the operating system, with the remedy that its kind suggests.
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "change its permissions or choose another folder"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space and run again; the training resumes from its last checkpoint"
            }
            _ => "choose a folder that can be created and written",
        };
        TrainError::Io { path: path.to_path_buf(), action, source, remedy }
    }
}
