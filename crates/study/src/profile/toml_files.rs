//! Listing of folders with experiment files.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// All files `*.toml` in a folder, sorted.
///
/// # Errors
/// Fails if the folder cannot be listed.
pub fn toml_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = || format!("cannot list {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
