//! Errors of checkpoints: the file, the cause and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// The version of the checkpoint format that this program writes and reads.
pub(super) const FORMAT: u64 = 1;

/// A checkpoint that could not be written or read: which file, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {}: {fault}", path.display())]
pub struct CheckpointError {
    path: PathBuf,
    #[source]
    fault: Fault,
}

impl CheckpointError {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cause.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// The cause of a [`CheckpointError`].
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system refused to write.
    #[error("cannot be written: {0}; choose a folder that exists, is writable and has space left")]
    Write(#[source] io::Error),
    /// The operating system refused to read.
    #[error("cannot be read: {0}; check the path and its permissions")]
    Read(#[source] io::Error),
    /// Not a whole safetensors file, or its content is not what was written.
    #[error("is damaged: {0}; delete it and restore a copy or write it again")]
    Damaged(String),
    /// No safetensors file at all.
    #[error(
        "is no safetensors file; give one of this program, or make one of another program's file by `tarrl import`"
    )]
    NoSafetensors,
    /// Whole, but not written by this library.
    #[error("has no tarrl metadata: it was not written by this program; make it one by `tarrl import`")]
    Foreign,
    /// Written in another version of the format.
    #[error("has format version {0}, but this program reads version {FORMAT}; use the version that wrote it")]
    Version(u64),
    /// A value is infinite or not a number.
    #[error(
        "tensor `{0}` has a value that is not finite: training diverged; go back to an earlier checkpoint"
    )]
    NotFinite(String),
    /// Tensors that the network has and the file has not.
    #[error("lacks {0}; it belongs to another network: use the configuration that it was written with")]
    Missing(String),
    /// Tensors that the file has and the network has not.
    #[error("has also {0}; it belongs to another network: use the configuration that it was written with")]
    Unexpected(String),
    /// A tensor of another type or shape.
    #[error(
        "tensor `{name}` is {found}, but the network has {expected}; use the configuration that it was written with"
    )]
    Misfit {
        /// The tensor.
        name: String,
        /// Type and shape in the file.
        found: String,
        /// Type and shape in the network.
        expected: String,
    },
    /// A tensor of a type that networks have not.
    #[error("tensor `{name}` is of type {found}, which no network has; save it as F32")]
    UnknownType {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A running variance is negative, of which a batch norm makes NaN.
    #[error(
        "tensor `{0}` has a negative variance, which no batch norm computes; restore a copy or write it again"
    )]
    NegativeVariance(String),
    /// The metadata describes no encoder.
    #[error("describes no encoder: {0}; load it into a network of known configuration, or use another file")]
    NoEncoder(String),
}

impl Fault {
    /// This fault, in the file at `path`.
    pub fn at(self, path: &Path) -> CheckpointError {
        CheckpointError { path: path.to_path_buf(), fault: self }
    }
}

/// The first few of some names, and how many more there are.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(3).map(|name| format!("`{name}`")).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
