//! The values of a chosen network, as an encoder of ours, and what is to be said of it.

use std::collections::BTreeMap;
use std::path::Path;

use tarrl_encoders::checkpoint::{Metadata, Stored, Tensors, Values, load_state_dict};
use tarrl_encoders::{Arch, BatchNormMode, Encoder, EncoderConfig, Module};
use tarrl_tensor::Device;

use super::candidate::{Candidate, list};
use super::choose::Choice;
use super::name_map::{Constants, NameMap};
use super::scope::Scope;
use super::tensor_file::{Element, FileTensor, TensorFile};
use crate::error::InteropError;
use crate::options::{Normalization, ReadOptions};

/// An encoder of another program, as one of ours.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The encoder, with the normalization of its images.
    pub encoder: Encoder,
    /// What was read and how it was understood, line by line.
    pub summary: Vec<String>,
    /// What a checkpoint of it notes: format, name map and network of the source.
    pub notes: Metadata,
}

/// Reads the tensors of a choice.
///
/// # Errors
/// If one cannot be read or is not finite, or the normalization does not suit the images.
pub(crate) fn load(
    path: &Path,
    file: &TensorFile,
    scope: &Scope,
    choice: Choice,
    options: &ReadOptions,
    device: &Device,
) -> Result<Imported, InteropError> {
    let Choice { map, candidate, how } = choice;
    let (normalization, normalization_line) = normalization(&map, &candidate, options);
    let mut config = candidate.config.clone();
    if let Some(Constants { mean, std }) = normalization {
        config.mean = mean;
        config.std = std;
    }
    config.check().map_err(|error| {
        InteropError::refused(path, error.to_string(), "give the normalization of its images by options")
    })?;
    let damaged = |name: &str, cause: String| {
        InteropError::refused(
            path,
            format!("`{name}` {cause}"),
            "copy or download it again, or write it again",
        )
    };
    let mut encoder = Encoder::zeros(&config, device);
    let mut names = Vec::new();
    encoder.visit(&mut |name, _, _| names.push(name.to_owned()));
    let mut tensors = Tensors::new();
    let mut counts_missing = 0;
    for name in names {
        let stored = match candidate.tensors.get(&name) {
            None => {
                counts_missing += 1;
                Stored::new(&[], Values::I64(vec![0]))
            }
            Some(tensor) if name.ends_with(".num_batches_tracked") => {
                let values = tensor.whole().map_err(|error| damaged(&name, error.to_string()))?;
                // Nothing is computed from it, and ours are U32.
                let count = values.first().copied().unwrap_or(0).clamp(0, i64::from(u32::MAX));
                Stored::new(&[], Values::I64(vec![count]))
            }
            Some(tensor) => {
                let values = tensor.floats().map_err(|error| damaged(&name, error.to_string()))?;
                if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                    return Err(InteropError::refused(
                        path,
                        format!("`{name}` holds {value}: the training diverged, or a double is beyond F32"),
                        "go back to an earlier checkpoint",
                    ));
                }
                Stored::new(&tensor.shape, Values::F32(values))
            }
        };
        tensors.insert(name, stored);
    }
    let mut means = tensors.iter().filter(|(name, _)| name.ends_with(".running_mean")).peekable();
    let untouched = means.peek().is_some()
        && means.all(|(_, mean)| matches!(mean.values(), Values::F32(v) if v.iter().all(|&v| v == 0.0)));
    load_state_dict(&mut encoder, &mut tensors).map_err(|fault| fault.at(path))?;
    let mut summary = summary(file, scope, &map, &candidate, how);
    summary.push(architecture_line(&config, encoder.dim(), &map, options));
    summary.push(normalization_line);
    summary.extend(types_line(&candidate.tensors));
    if counts_missing > 0 {
        summary.push(format!(
            "counts of batches: {counts_missing} are missing and taken as 0; nothing is computed from them"
        ));
    }
    if untouched {
        summary.push(
            "warning: all running means are 0: the batch norms have seen no image, as in an average of the parameters \
             alone; import the network that was trained, or compute the running statistics before saving"
                .to_owned(),
        );
    }
    let notes = Metadata::from([
        ("source_format".to_owned(), file.format.clone()),
        ("source_map".to_owned(), map.name.clone()),
        ("source_network".to_owned(), format!("{}|{}", scope.container, candidate.prefix)),
    ]);
    Ok(Imported { encoder, summary, notes })
}

fn summary(
    file: &TensorFile,
    scope: &Scope,
    map: &NameMap,
    candidate: &Candidate,
    how: String,
) -> Vec<String> {
    let network = map.networks.iter().find(|network| network.prefix == candidate.prefix);
    let mut lines = vec![
        format!("format: {}, {} tensors", file.format, file.tensors.len()),
        match scope.container.as_str() {
            "" => "state dict: the file itself".to_owned(),
            key => format!("state dict: under `{key}`"),
        },
        format!("name map: {} ({}), {how}", map.name, map.about),
        format!("network: `{}*`, {}", candidate.prefix, network.map_or("", |network| &network.is)),
    ];
    let others = others(scope, map, candidate);
    if !others.is_empty() {
        lines.push(format!("not read: {}", list(others.into_iter())));
    }
    if candidate.config.norm == BatchNormMode::Dual {
        let of = candidate.branch.map_or(2, |branch| branch.of);
        lines.push(format!("batch norm: sets 0 and 1 of {of}, clean and attacked images"));
    } else if let Some(branch) = candidate.branch {
        let what = match (branch.taken, branch.of) {
            (0, 2..) => ", clean images",
            (1, _) => ", attacked images",
            _ => "",
        };
        lines.push(format!("batch norm: set {} of {}{what}", branch.taken, branch.of));
    }
    lines
}

/// What of a state dict is not of the encoder: other networks by the first component of their names, heads in full.
fn others(scope: &Scope, map: &NameMap, candidate: &Candidate) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in scope.tensors.keys() {
        let rest = name.strip_prefix(&candidate.prefix);
        let ignored = |rest: &str| map.ignore.iter().any(|start| rest.starts_with(start.as_str()));
        if rest.is_none_or(ignored) {
            let first = name.split_once('.').map_or(name.as_str(), |(first, _)| first);
            *counts.entry(first).or_default() += 1;
        }
    }
    counts.into_iter().map(|(first, count)| format!("`{first}*` ({count} tensors)")).collect()
}

fn architecture_line(config: &EncoderConfig, dim: usize, map: &NameMap, options: &ReadOptions) -> String {
    let mut line = format!(
        "architecture: {}, width {}, {} channels, {dim} dimensions",
        config.arch.name(),
        config.width,
        config.in_channels
    );
    if config.side > 0 {
        line += &format!(", images of {0}×{0}", config.side);
    }
    if let Some(clip) = config.variant.clip {
        line += match clip.quick_gelu {
            true => "; activation x·σ(1.702x), as the name map has it, since no file says it",
            false => "; activation GELU, as the name map has it, since no file says it",
        };
    }
    if config.arch.name().ends_with("-cifar") {
        let padding = config.variant.stem_padding.unwrap_or(1);
        let why = match (options.stem_padding, map.stem_padding_known) {
            (Some(_), _) => "as asked",
            (None, true) => "as its program has it",
            (None, false) => "a guess, since no file says it: solo-learn and DeACL have 2 (--stem-padding)",
        };
        line += &format!("; stem padding {padding}, {why}");
        if config.variant.linear_stem {
            line += "; no ReLU after the stem, as its program has it";
        }
    }
    if config.arch == Arch::VitTiny {
        let heads = config.variant.heads.unwrap_or(3);
        let why = match (options.heads, map.heads) {
            (Some(_), _) => "as asked",
            (None, Some(_)) => "as its program has it",
            (None, None) => {
                "a guess, one for 64 dimensions, since no file says it: MoCo v3 has 12 at any width, and so has solo-learn for \
                 MoCo v3 and MAE (--heads)"
            }
        };
        line += &format!("; {heads} heads, {why}");
    }
    line
}

/// The constants that are applied, if any, and what is to be said of them.
fn normalization(map: &NameMap, candidate: &Candidate, options: &ReadOptions) -> (Option<Constants>, String) {
    let applied = |constants: Constants, why: &str| {
        let line = normalization_line(&constants.mean, &constants.std, why);
        (Some(constants), line)
    };
    let config = &candidate.config;
    match (&options.normalization, &candidate.inside) {
        (Some(Normalization::None), _) => (None, normalization_line(&[], &[], "as asked")),
        (Some(Normalization::Constants { mean, std }), _) => {
            applied(Constants { mean: mean.clone(), std: std.clone() }, "as asked")
        }
        (None, Some((name, [mean, std]))) => {
            let known = map.normalization.inside.as_ref();
            let close = |a: &[f64], b: &[f64]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
            };
            let why = match known {
                Some(known) if close(&known.mean, mean) && close(&known.std, std) => {
                    format!("from `{name}` of the file, as its program has it")
                }
                Some(known) => format!(
                    "from `{name}` of the file; its program usually has {:?} and {:?}",
                    known.mean, known.std
                ),
                None => format!("from `{name}` of the file"),
            };
            applied(Constants { mean: mean.clone(), std: std.clone() }, &why)
        }
        (None, None) => {
            // Of our maps, the published networks for large images; small ones were trained on other data.
            let small = config.arch.name().ends_with("-cifar") || config.arch == Arch::ConvSmall;
            let large = !small && config.in_channels == 3;
            match &map.normalization.outside {
                Some(constants) if large || map.is_own => {
                    applied(constants.clone(), "the program's, outside of the file")
                }
                _ if map.normalization.none => (None, normalization_line(&[], &[], "as its program has it")),
                _ => (
                    None,
                    normalization_line(
                        &[],
                        &[],
                        "none is in the file; if its images were normalized in training, give the constants \
                         (--normalization)",
                    ),
                ),
            }
        }
    }
}

/// The line of a summary on normalization.
pub(super) fn normalization_line(mean: &[f64], std: &[f64], why: &str) -> String {
    if mean.is_empty() && std.is_empty() {
        return format!("normalization: none ({why})");
    }
    let short = |values: &[f64]| values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(" ");
    format!("normalization: mean {}, std {} ({why})", short(mean), short(std))
}

/// What was done to types other than F32.
fn types_line(tensors: &BTreeMap<String, FileTensor>) -> Option<String> {
    let has = |element: Element| tensors.values().any(|tensor| tensor.element == element);
    let half: Vec<&str> =
        [Element::F16, Element::Bf16].into_iter().filter(|&e| has(e)).map(Element::name).collect();
    match (half.is_empty(), has(Element::F64)) {
        (true, false) => None,
        (false, false) => Some(format!("types: {} to F32, exactly", half.join(" and "))),
        (true, true) => Some("types: F64 to F32, rounded".to_owned()),
        (false, true) => Some(format!("types: {} to F32, exactly; F64 to F32, rounded", half.join(" and "))),
    }
}
