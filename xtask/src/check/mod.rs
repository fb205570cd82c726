//! The rules of the house, checked on the workspace's metadata and sources.
//!
//! Each rule is a function from text to violations, so that its tests can show that it fails when it should.

mod code;
mod edges;
mod experiments;
mod rules;
mod sources;

use std::fmt;
use std::path::Path;

pub use code::{library_part, mask};
pub use edges::{Crate, crates, edges};
pub use experiments::experiments;
pub use rules::{forbid_unsafe, length, long_files, words};
pub use sources::{Source, read_sources};

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// File or crate.
    pub place: String,
    /// Line, counted from one, where there is one.
    pub line: Option<usize>,
    /// What is wrong, and what to do instead.
    pub message: String,
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
pub struct Findings {
    /// Breaches; any of them fails the check.
    pub violations: Vec<Violation>,
    /// Remarks that fail nothing.
    pub notes: Vec<String>,
}

/// Checks all rules on the workspace at `root`; `metadata` is what `cargo metadata --no-deps` says of it.
///
/// # Errors
/// Fails if a source or the metadata cannot be read.
pub fn invariants(root: &Path, metadata: &serde_json::Value) -> anyhow::Result<Findings> {
    let crates = crates(metadata)?;
    let sources = read_sources(root, &crates)?;
    let mut violations = edges(&crates);
    violations.extend(forbid_unsafe(&crates, &sources));
    violations.extend(sources.iter().flat_map(words));
    violations.extend(sources.iter().filter_map(length));
    violations.extend(experiments(&root.join("experiments"))?);
    Ok(Findings { violations, notes: long_files(&sources) })
}
