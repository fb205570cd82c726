//! State dicts of other programs: PyTorch files and safetensors, read as encoders of ours.
//!
//! A file is read in steps: its tensors by name ([`tensor_file`]); the state dict among its dictionaries ([`scope`]); the
//! names of its program made ours by a map ([`name_map`]); one set of batch norms ([`batch_norms`]); the architecture from
//! names and shapes ([`architecture`]); and the values, last.

mod architecture;
mod batch_norms;
mod candidate;
mod choose;
mod export;
mod load;
mod name_map;
#[cfg(feature = "pytorch")]
mod pytorch_file;
mod safetensors_file;
mod scope;
mod tensor_file;

use std::path::Path;

use tarrl_encoders::checkpoint::load_encoder;
use tarrl_encoders::{BnBranch, Encoder};
use tarrl_tensor::Device;

use crate::error::InteropError;
use crate::format::Format;
use crate::options::ReadOptions;
use candidate::list;
use choose::{attempts, choose};
pub use export::save_state_dict;
pub use load::Imported;
use load::load;
use safetensors_file::Header;
use scope::{state_dict, top_level};
use tensor_file::TensorFile;

/// Reads the encoder of a file of a recognized format: one of ours as it is, one of another program by a name map.
///
/// # Errors
/// If the file cannot be read, or holds no encoder that is read.
pub(crate) fn open(
    path: &Path,
    format: Format,
    options: &ReadOptions,
    device: &Device,
) -> Result<Imported, InteropError> {
    let file = match tensors(path, format)? {
        Some(file) => file,
        None => return ours(path, options, device),
    };
    let scope = state_dict(path, &file, options.container.as_deref())?;
    let choice = choose(path, &file, &scope, options)?;
    load(path, &file, &scope, choice, options, device)
}

/// What a file contains, line by line, and what each name map makes of it.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn describe(
    path: &Path,
    format: Format,
    options: &ReadOptions,
) -> Result<Vec<String>, InteropError> {
    let Some(file) = tensors(path, format)? else {
        return Ok(vec!["format: a checkpoint of this program, which needs no import".to_owned()]);
    };
    let scope = state_dict(path, &file, options.container.as_deref())?;
    let mut lines = vec![
        format!("format: {}, {} tensors, {} bytes", file.format, file.tensors.len(), file.length),
        format!("keys: {}", list(top_level(&file).into_iter().map(str::to_owned))),
        match scope.container.as_str() {
            "" => "state dict: the file itself".to_owned(),
            key => format!("state dict: under `{key}`"),
        },
    ];
    lines.extend(groups(&scope).into_iter().map(|(name, count)| format!("  {name} ({count} tensors)")));
    let attempts = attempts(&file, &scope, options);
    for attempt in &attempts {
        let name = &attempt.map.name;
        match &attempt.result {
            Some(Ok(found)) => {
                let recognized =
                    if attempt.recognized { "" } else { ", if asked for: it does not look like its files" };
                let (arch, width) = (found.config.arch.name(), found.config.width);
                lines.push(format!(
                    "map {name}: fits `{}*` as {arch}, width {width}{recognized}",
                    found.prefix
                ));
            }
            Some(Err(faults)) if attempt.recognized && !attempt.map.requires.is_empty() => {
                lines.push(format!("map {name}: {}", faults.describe()));
            }
            _ => {}
        }
    }
    if !attempts.iter().any(|attempt| matches!(attempt.result, Some(Ok(_)))) {
        lines.push("no name map fits".to_owned());
    }
    Ok(lines)
}

/// The first components of the names of a state dict, with the number of tensors under each.
fn groups(scope: &scope::Scope) -> Vec<(String, usize)> {
    let mut groups: Vec<(String, usize)> = Vec::new();
    for name in scope.tensors.keys() {
        let first = name.split_once('.').map_or(name.as_str(), |(first, _)| first);
        match groups.last_mut() {
            Some((last, count)) if last == first => *count += 1,
            _ => groups.push((first.to_owned(), 1)),
        }
    }
    groups.truncate(64);
    groups
}

/// The tensors of a file; `None` of a checkpoint of ours.
fn tensors(path: &Path, format: Format) -> Result<Option<TensorFile>, InteropError> {
    if format == Format::Safetensors {
        let header = Header::read(path)?;
        return Ok((!header.is_ours()).then(|| header.tensors()));
    }
    #[cfg(feature = "pytorch")]
    return pytorch_file::read(path).map(Some);
    #[cfg(not(feature = "pytorch"))]
    Err(InteropError::refused(
        path,
        "is a PyTorch file, which this build does not read",
        "build with the feature `pytorch`, or save the state dict as safetensors",
    ))
}

/// A checkpoint of ours, of two sets of batch norms the one that is asked for.
fn ours(path: &Path, options: &ReadOptions, device: &Device) -> Result<Imported, InteropError> {
    let encoder = load_encoder(path, device)?;
    if options.both_branches {
        return Err(InteropError::refused(
            path,
            "is a checkpoint of this program",
            "it needs no import; its sets of batch norms are chosen by --branch where it is used",
        ));
    }
    let branch = match options.branch {
        None | Some(0) => BnBranch::Clean,
        Some(1) => BnBranch::Adversarial,
        Some(set) => {
            return Err(InteropError::refused(
                path,
                format!("has the sets 0 and 1 of batch norms at most, and set {set} is asked for"),
                "give --branch 0 or --branch 1",
            ));
        }
    };
    let encoder = Encoder::only(&encoder, branch);
    let config = encoder.config();
    let summary = vec![
        "format: a checkpoint of this program".to_owned(),
        format!("architecture: {}, width {}, {} dimensions", config.arch.name(), config.width, encoder.dim()),
        load::normalization_line(&config.mean, &config.std, "in the file"),
    ];
    Ok(Imported { encoder, summary, notes: Default::default() })
}
