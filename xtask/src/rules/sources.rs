//! The source files and documents of the workspace.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::{Crate, library_part, mask};

/// A Rust source file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Name of its crate without `tarrl-`.
    pub(crate) krate: String,
    /// Path from the root of the workspace, with `/` between its parts.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
    /// Its content with spaces in place of comments and literals.
    pub(crate) code: String,
}

impl Source {
    /// A file of the crate `krate`.
    pub(crate) fn new(krate: &str, path: &str, text: String) -> Self {
        Self { krate: krate.to_owned(), path: path.to_owned(), code: mask(&text), text }
    }

    /// Its code without the test module at its end.
    pub(crate) fn library_code(&self) -> &str {
        library_part(&self.code)
    }

    /// Whether the whole file only serves tests, benches or examples.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/').skip_while(|part| *part != self.krate.as_str()).skip(1);
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "examples"))
    }
}

/// A file that people read.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Path from the root of the workspace, with `/` between its parts.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

/// Folders and files at the root that may hold documents or configuration; everything else there is made by programs.
const READ: &[&str] = &["benches", "crates", "datasets", "docs", "examples", "experiments", "xtask"];

/// Reads every `*.md` and `*.toml` of the workspace, in the order of their paths.
///
/// # Errors
/// Fails if a folder or file cannot be read.
pub(crate) fn read_documents(root: &Path) -> anyhow::Result<Vec<Text>> {
    let mut texts = Vec::new();
    read_texts(root, root, &mut texts)?;
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(texts)
}

fn read_texts(root: &Path, folder: &Path, texts: &mut Vec<Text>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        if path.is_dir() {
            if parts.len() > 1 && parts[parts.len() - 1] != "target" || READ.contains(&parts[0].as_ref()) {
                read_texts(root, &path, texts)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "md" || ending == "toml") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.push(Text { path: parts.join("/"), text });
        }
    }
    Ok(())
}

/// Reads every `*.rs` of `crates`, in the order of their paths.
///
/// # Errors
/// Fails if a folder or file cannot be read.
pub(crate) fn read_sources(root: &Path, crates: &[Crate]) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for krate in crates {
        read_folder(root, krate, &krate.folder, &mut sources)?;
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn read_folder(root: &Path, krate: &Crate, folder: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        // A folder with a manifest of its own is another package, which is no part of the workspace.
        if path.join("Cargo.toml").exists() {
            continue;
        }
        if path.is_dir() {
            read_folder(root, krate, &path, sources)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let relative = path.strip_prefix(root).unwrap_or(&path);
            let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
            sources.push(Source::new(&krate.name, &parts.join("/"), text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_files_are_told_by_their_place_inside_the_crate() {
        for (krate, path, test) in [
            ("data", "crates/data/src/idx.rs", false),
            ("data", "crates/data/tests/idx.rs", true),
            ("tensor", "crates/tensor/src/cpu/conv/tests.rs", true),
            ("data", "crates/data/examples/sample.rs", true),
            ("benches", "benches/src/lib.rs", false),
            ("benches", "benches/benches/conv.rs", true),
        ] {
            let source = Source::new(krate, path, String::new());
            assert_eq!(source.is_test(), test, "{path}");
        }
    }
}
