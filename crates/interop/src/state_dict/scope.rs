//! Where in a file the state dict is: containers and wrappers around it.

use std::collections::BTreeMap;
use std::path::Path;

use super::tensor_file::{FileTensor, TensorFile};
use crate::error::InteropError;

/// Keys under which programs keep a state dict, in the order in which they are tried.
const CONTAINERS: &[&str] =
    &["state_dict", "model_state_dict", "model", "teacher", "net", "params", "P_state", "student"];

/// Keys under which they keep a second one, which may be meant instead.
const ALTERNATIVES: &[&str] = &["model_ema", "state_dict_ema", "last", "best"];

/// Components of names that PyTorch adds: data parallelism and averages, and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// What PyTorch's `AveragedModel` counts beside the network.
const AVERAGED: &str = "n_averaged";

/// The state dict of a file.
pub(crate) struct Scope {
    /// Its key in the file; empty for the file itself.
    pub(crate) container: String,
    /// Its tensors, without the names of container and wrappers.
    pub(crate) tensors: BTreeMap<String, FileTensor>,
    /// The length of the file in bytes.
    pub(crate) length: u64,
}

/// The state dict of a file, under `container` if it is given.
///
/// # Errors
/// If there is none under that key, or the file has several and the reader has to choose.
pub(crate) fn state_dict(
    path: &Path,
    file: &TensorFile,
    container: Option<&str>,
) -> Result<Scope, InteropError> {
    let has = |key: &str| file.tensors.keys().any(|name| under(name, key).is_some());
    let alternatives: Vec<&str> = ALTERNATIVES.iter().copied().filter(|key| has(key)).collect();
    let usual = CONTAINERS.iter().copied().find(|key| has(key));
    let container = match container {
        Some("") => "",
        Some(key) if has(key) => key,
        Some(key) => {
            let keys =
                top_level(file).into_iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            return Err(InteropError::refused(
                path,
                format!("has no tensors under the key `{key}`"),
                format!("give one of {keys} as the container"),
            ));
        }
        None if alternatives.len() + usize::from(usual.is_some()) > 1 => {
            let keys = usual.iter().chain(&alternatives).map(|key| format!("`{key}`")).collect::<Vec<_>>();
            return Err(InteropError::refused(
                path,
                format!("holds several networks, under {}", keys.join(" and ")),
                "choose one by --container KEY",
            ));
        }
        None => usual.or(alternatives.first().copied()).unwrap_or(""),
    };
    let inside = file.tensors.iter().filter_map(|(name, tensor)| {
        let name = if container.is_empty() { name.as_str() } else { under(name, container)? };
        (name != AVERAGED).then_some((name, tensor))
    });
    Ok(Scope { container: container.to_owned(), tensors: unwrapped(inside), length: file.length })
}

/// The first components of the names of all tensors.
pub(crate) fn top_level(file: &TensorFile) -> Vec<&str> {
    let mut first: Vec<&str> = file
        .tensors
        .keys()
        .map(|name| name.split_once('.').map_or(name.as_str(), |(first, _)| first))
        .collect();
    first.dedup();
    first
}

fn under<'a>(name: &'a str, key: &str) -> Option<&'a str> {
    name.strip_prefix(key)?.strip_prefix('.')
}

/// Names without [`WRAPPERS`]. Where a network is there with and without them, the shorter name counts.
fn unwrapped<'a>(tensors: impl Iterator<Item = (&'a str, &'a FileTensor)>) -> BTreeMap<String, FileTensor> {
    let mut by_length: Vec<_> = tensors.collect();
    by_length.sort_by_key(|(name, _)| name.len());
    let mut unwrapped = BTreeMap::new();
    for (name, tensor) in by_length {
        let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
        unwrapped.entry(parts.join(".")).or_insert_with(|| tensor.clone());
    }
    unwrapped
}
