//! Repository root: where the program finds its datasets and experiments.

use std::path::Path;

/// Its root, where datasets and experiments are.
pub(crate) fn workspace_root() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("the crate lies two folders below the root")
}
