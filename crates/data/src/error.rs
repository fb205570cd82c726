//! Errors of files, folders, manifests and downloads.

use std::io;
use std::path::{Path, PathBuf};

/// An error of this crate. Every message names the file (or setting), the cause and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file exists but its content is not what its format demands.
    #[error("{path}: {cause}; {remedy}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
    /// The operating system refused to read or write.
    #[error("{path}: cannot {action}: {source}; {remedy}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// The refusal.
        source: io::Error,
        /// What to do about it.
        remedy: String,
    },
    /// A dataset's files are in none of the places where they are looked for.
    #[error(
        "dataset '{name}': no {file} in {looked}; {remedy}",
        looked = .looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// The dataset.
        name: String,
        /// The first file that is missing.
        file: String,
        /// The folders that were searched.
        looked: Vec<PathBuf>,
        /// What to put where.
        remedy: String,
    },
    /// No manifest has this name.
    #[error("there is no dataset '{name}' in {folder}; known: {known}", folder = .folder.display())]
    UnknownDataset {
        /// The name that was asked for.
        name: String,
        /// The folder of manifests.
        folder: PathBuf,
        /// The names there, separated by commas.
        known: String,
    },
    /// A file could not be downloaded.
    #[error("dataset '{name}': downloading {file} failed ({cause}); {remedy}")]
    Download {
        /// The dataset.
        name: String,
        /// The file.
        file: String,
        /// Each address that was tried with its failure.
        cause: String,
        /// What to put where instead.
        remedy: String,
    },
    /// A setting asks for something impossible.
    #[error("{setting}: {cause}; {remedy}")]
    Setting {
        /// The setting with its value.
        setting: String,
        /// Why it cannot be.
        cause: String,
        /// What would do.
        remedy: String,
    },
}

/// The result of anything that touches files or settings.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn malformed(path: &Path, cause: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Malformed { path: path.to_owned(), cause: cause.into(), remedy: remedy.into() }
}

pub(crate) fn setting(
    setting: impl Into<String>,
    cause: impl Into<String>,
    remedy: impl Into<String>,
) -> Error {
    Error::Setting { setting: setting.into(), cause: cause.into(), remedy: remedy.into() }
}

/// Wraps an error of the operating system, with the remedy that its kind suggests.
pub(crate) fn io_error(path: &Path, action: &'static str, source: io::Error) -> Error {
    let remedy = match source.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "change its permissions or choose another folder"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space or choose another folder"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "choose a path whose parents are folders"
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            "the file is damaged: copy or download it again"
        }
        io::ErrorKind::FileTooLarge => "check that it is the right file",
        _ => "check the disk and try again",
    };
    Error::Io { path: path.to_owned(), action, source, remedy: remedy.to_owned() }
}
