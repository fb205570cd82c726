//! Output files: advice when a write fails, and content hashes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tarrl_files::folder;

pub use tarrl_files::{try_write, write_atomic};

/// The error of a failed write of `path`, with the remedy; `option` is what chooses another place.
pub fn cannot_write(path: &Path, option: &str, error: io::Error) -> anyhow::Error {
    use io::ErrorKind::{
        FileTooLarge, IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    let remedy = match error.kind() {
        StorageFull | QuotaExceeded => format!(
            "the disk of {} is full; free some space on it, or choose another disk with {option}",
            folder(path).display()
        ),
        FileTooLarge => format!(
            "the size of files is limited there; raise the limit (ulimit -f), or choose another disk with {option}"
        ),
        NotFound => format!("choose a folder that exists with {option}"),
        NotADirectory => format!("choose a place whose parents are folders with {option}"),
        IsADirectory => format!("it is a folder; name a file with {option}"),
        PermissionDenied | ReadOnlyFilesystem => {
            format!("make it writable, or choose another place with {option}")
        }
        _ => format!("choose another place with {option}"),
    };
    anyhow::Error::new(error).context(format!("cannot write to {}; {remedy}", path.display()))
}

/// Number of bytes and BLAKE3, in hexadecimal, of what `file` holds.
///
/// # Errors
/// Returns the system's error.
pub(crate) fn digest(mut file: File) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((bytes, hasher.finalize().to_hex().to_string())),
            n => {
                hasher.update(&chunk[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// BLAKE3 of a file, in hexadecimal: what certificates and heads name their encoder by.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn hash(path: &Path) -> anyhow::Result<String> {
    let found = File::open(path).and_then(digest);
    let unreadable = || format!("cannot read {}; check the path", path.display());
    Ok(anyhow::Context::with_context(found, unreadable)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_after_a_failed_write_fits_its_cause() {
        let advice = |kind: io::ErrorKind| {
            cannot_write(Path::new("out/a.json"), "--json FILE", kind.into()).to_string()
        };
        let full = advice(io::ErrorKind::StorageFull);
        assert!(full.contains("the disk of out is full") && full.contains("--json FILE"), "{full}");
        assert!(advice(io::ErrorKind::FileTooLarge).contains("ulimit -f"));
        assert!(advice(io::ErrorKind::NotFound).contains("choose a folder that exists"));
        assert!(advice(io::ErrorKind::PermissionDenied).contains("make it writable"));
    }
}
