//! The rules of the workspace, checked on the workspace's metadata and sources.
//!
//! Each rule is a function from text to violations, so that its tests can show that it fails when it should.

mod circles;
mod code;
mod edges;
mod exports;
mod first_lines;
mod imports;
mod packaging;
mod restricted;
mod sources;
mod spelling;
mod unsafe_inventory;
mod violation;
mod vocabulary;

use std::path::Path;

use circles::circles;
pub(crate) use code::{library_part, mask};
pub(crate) use edges::{Crate, crates, edges};
use exports::unused_exports;
use first_lines::first_line;
use packaging::{crate_sizes, foreign_files};
pub(crate) use restricted::{forbid_unsafe, length, long_files, words};
pub(crate) use sources::{Source, Text, read_documents, read_sources};
use spelling::spelling;
use unsafe_inventory::unsafe_inventory;
pub(crate) use violation::Violation;
use vocabulary::vocabulary;

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
    let documents = read_documents(root)?;
    let files = sources.iter().map(|source| Text { path: source.path.clone(), text: source.text.clone() });
    let texts: Vec<Text> = files.chain(documents.iter().cloned()).collect();

    let mut violations = edges(&crates);
    violations.extend(forbid_unsafe(&crates, &sources));
    violations.extend(sources.iter().flat_map(words));
    violations.extend(sources.iter().filter_map(length));

    violations.extend(crate_sizes(&crates, &sources));
    violations.extend(sources.iter().flat_map(foreign_files));
    violations.extend(sources.iter().filter_map(first_line));
    violations.extend(circles(&sources));
    violations.extend(unused_exports(&crates, &sources, &documents));
    violations.extend(unsafe_inventory(&sources, &documents));
    violations.extend(texts.iter().flat_map(spelling));
    violations.extend(texts.iter().flat_map(vocabulary));
    Ok(Findings { violations, notes: long_files(&sources) })
}
