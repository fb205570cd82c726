//! The target of parquet, in programs built with its reader.

use crate::scratch::Scratch;
use crate::target::{Target, none};
use tarrl_data::{Catalog, Source, SourceOptions};

pub(super) const PARQUET: Target = Target {
    name: "parquet",
    seeds: || vec![super::datasets::repository("crates/data/tests/golden/hub.parquet")],
    words: &["PAR1", "huggingface", "label", "bytes", "IHDR", "\0\0\0\0"],
    repair: none,
    read: read_parquet,
};

fn read_parquet(bytes: &[u8], scratch: &Scratch) -> bool {
    let path = scratch.file("parquet/test.parquet", bytes);
    let catalog = Catalog::new(scratch.path("manifests"), scratch.path("data"));
    let name = path.to_str().expect("a temporary folder has a plain name");
    let Ok(source) = Source::open(name, &catalog, SourceOptions::default()) else { return false };
    let Ok(data) = source.read("all") else { return false };
    assert_eq!(data.images.dim().0, data.labels.len());
    assert!(data.labels.iter().all(|&label| usize::from(label) < data.classes.len()));
    true
}
