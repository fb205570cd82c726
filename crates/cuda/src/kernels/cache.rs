//! The cache of compiled kernels on disk: a file for each key, with a checksum.

use std::fs;
use std::path::{Path, PathBuf};

const CHECKSUM: usize = blake3::OUT_LEN;

/// A folder of compiled kernels; nothing is kept without a folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Cache { folder }
    }

    /// What is kept under the hash of `parts`, or what `make` makes, which is then kept.
    /// A file that is not whole counts as absent; a folder that cannot be written is no error.
    pub(crate) fn get<E>(
        &self,
        parts: &[&str],
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let Some(folder) = &self.folder else { return make() };
        let path = folder.join(key(parts));
        if let Some(bytes) = read(&path) {
            return Ok(bytes);
        }
        let bytes = make()?;
        // The next process compiles again if this fails, nothing worse.
        let _ = write(folder, &path, &bytes);
        Ok(bytes)
    }
}

/// The hash of the parts, each with its length, so that no two lists run into each other.
fn key(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = fs::read(path).ok()?;
    let (checksum, bytes) = file.split_at_checked(CHECKSUM)?;
    (blake3::hash(bytes).as_bytes() == checksum).then(|| bytes.to_vec())
}

/// Whole or not at all, so that no reader sees half a file.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    tarrl_files::write_atomic(path, &[blake3::hash(bytes).as_bytes(), bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn get(cache: &Cache, parts: &[&str], value: &str) -> String {
        let made = cache.get(parts, || Ok::<_, Infallible>(value.as_bytes().to_vec()));
        String::from_utf8(made.unwrap()).unwrap()
    }

    #[test]
    fn a_value_is_made_once_for_each_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path().join("not/there/yet")));
        assert_eq!(get(&cache, &["source", "sm_90"], "first"), "first");
        assert_eq!(get(&cache, &["source", "sm_90"], "second"), "first");
        assert_eq!(get(&cache, &["source", "sm_80"], "second"), "second");
        assert_eq!(get(&cache, &["sources", "m_90"], "third"), "third");
        assert_eq!(get(&Cache::new(None), &["source", "sm_90"], "fourth"), "fourth");
    }

    #[test]
    fn a_truncated_cache_file_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path().to_owned()));
        get(&cache, &["a"], "value");
        let path = folder.path().join(key(&["a"]));
        for broken in [&b""[..], b"short", &[7; 60]] {
            fs::write(&path, broken).unwrap();
            assert_eq!(get(&cache, &["a"], "again"), "again");
            assert_eq!(get(&cache, &["a"], "never"), "again");
        }
    }

    #[test]
    fn errors_are_passed_on_and_nothing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path().to_owned()));
        assert_eq!(cache.get(&["a"], || Err("no compiler")), Err("no compiler"));
        assert_eq!(get(&cache, &["a"], "later"), "later");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cache = Cache::new(Some(file.path().join("below a file")));
        assert_eq!(get(&cache, &["a"], "value"), "value");
    }
}
