//! Why a file of another program could not be read.

use std::path::{Path, PathBuf};

use tarrl_encoders::checkpoint::CheckpointError;

/// A model file that cannot be used. Its message names the file, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InteropError {
    /// A checkpoint of ours.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file that cannot be read.
    #[error("cannot read {}: {source}; check that the file exists and may be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {source}; choose a folder that exists, is writable and has space left", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file that is read and refused.
    #[error("{}: {cause}; {remedy}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: String,
        /// What to do.
        remedy: String,
    },
}

impl InteropError {
    /// A refusal of the file at `path`.
    pub(crate) fn refused(path: &Path, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        InteropError::Refused { path: path.to_path_buf(), cause: cause.into(), remedy: remedy.into() }
    }
}
