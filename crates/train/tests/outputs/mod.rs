//! What a training leaves in its folder.

use std::fs;
use std::path::Path;
use tarrl_train::{EpochRecord, Record};

/// Of checkpoint and encoder.
pub(crate) fn hash(folder: &Path) -> [blake3::Hash; 2] {
    ["checkpoint.safetensors", "encoder.safetensors"]
        .map(|f| blake3::hash(&fs::read(folder.join(f)).unwrap()))
}

pub(crate) fn records(folder: &Path) -> Vec<Record> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The records without what a clock or the system says.
pub(crate) fn timeless(folder: &Path) -> Vec<Record> {
    let strip = |record| match record {
        Record::Epoch(epoch) => Record::Epoch(EpochRecord {
            seconds: 0.0,
            images_per_second: 0.0,
            waiting: 0.0,
            saving: 0.0,
            peak_memory: None,
            ..epoch
        }),
        other => other,
    };
    records(folder).into_iter().map(strip).collect()
}
