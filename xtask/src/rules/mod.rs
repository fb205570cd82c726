//! The rules of the workspace, checked on the workspace's metadata and sources.
//!
//! Each rule is a function from text to violations, so that its tests can show that it fails when it should.

mod code;
mod edges;
mod rules;
mod sources;

use std::fmt;
use std::path::Path;

pub(crate) use code::{library_part, mask};
pub(crate) use edges::{Crate, crates, edges};
pub(crate) use rules::{forbid_unsafe, length, long_files, words};
pub(crate) use sources::{Source, read_sources};

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    /// File or crate.
    pub(crate) place: String,
    /// Line, counted from one, where there is one.
    pub(crate) line: Option<usize>,
    /// What is wrong, and what to do instead.
    pub(crate) message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
    }
}

/// What the rules found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Breaches; any of them fails the check.
    pub(crate) violations: Vec<Violation>,
    /// Remarks that fail nothing.
    pub(crate) notes: Vec<String>,
}

/// Checks all rules on the workspace at `root`; `metadata` is what `cargo metadata --no-deps` says of it.
///
/// # Errors
/// Fails if a source or the metadata cannot be read.
pub(crate) fn invariants(root: &Path, metadata: &serde_json::Value) -> anyhow::Result<Findings> {
    let crates = crates(metadata)?;
    let sources = read_sources(root, &crates)?;
    let mut violations = edges(&crates);
    violations.extend(forbid_unsafe(&crates, &sources));
    violations.extend(sources.iter().flat_map(words));
    violations.extend(sources.iter().filter_map(length));
    Ok(Findings { violations, notes: long_files(&sources) })
}
