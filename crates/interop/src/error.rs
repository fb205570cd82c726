//! Why a file of another program could not be read.

use std::path::PathBuf;

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
}
