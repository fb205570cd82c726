//! A network of a file under a name map: whether it is an encoder, and what is wrong if not.

use std::collections::BTreeMap;
use std::io;

use tarrl_encoders::{BatchNormMode, Encoder, EncoderConfig, Module, Role};
use tarrl_tensor::cpu;

use super::architecture::infer;
use super::batch_norms::{self, Branch};
use super::name_map::{NameMap, NetworkNames};
use super::scope::Scope;
use super::tensor_file::FileTensor;
use crate::options::ReadOptions;

/// Names under which networks keep the constants of their normalization.
const NORMALIZATIONS: [[&str; 2]; 4] = [
    ["normalize.mean", "normalize.std"],
    ["mu", "sigma"],
    ["normalizer.new_mean", "normalizer.new_std"],
    ["mean", "std"],
];

/// Bytes that a network may declare beyond the length of its file, as views that share memory do.
const SHARED: u64 = 1 << 24;

/// An encoder that was found in a file.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The prefix that it was found under.
    pub(crate) prefix: String,
    /// Architecture, without normalization.
    pub(crate) config: EncoderConfig,
    /// Its tensors under our names.
    pub(crate) tensors: BTreeMap<String, FileTensor>,
    /// The set of batch norms, of several.
    pub(crate) branch: Option<Branch>,
    /// Mean and standard deviation that the file holds, with the name of the former.
    pub(crate) inside: Option<Inside>,
}

/// Mean and standard deviation that a file holds, with the name of the former.
pub(crate) type Inside = (String, [Vec<f64>; 2]);

/// Why a network is none, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// A cause for which names and shapes were not compared.
    pub(crate) cause: Option<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) leftover: Vec<String>,
    /// With both shapes.
    pub(crate) misfit: Vec<String>,
}

impl Faults {
    fn of(cause: String) -> Self {
        Faults { cause: Some(cause), ..Faults::default() }
    }

    /// How far from an encoder; less is nearer.
    pub(crate) fn distance(&self) -> usize {
        let cause = if self.cause.is_some() { 1_000_000 } else { 0 };
        cause + self.missing.len() + self.leftover.len() + self.misfit.len()
    }

    /// In words.
    pub(crate) fn describe(&self) -> String {
        let mut parts: Vec<String> = self.cause.iter().cloned().collect();
        for (what, names) in [("lacks", &self.missing), ("has also", &self.leftover)] {
            if !names.is_empty() {
                parts.push(format!("it {what} {}", list(names.iter().map(|name| format!("`{name}`")))));
            }
        }
        if !self.misfit.is_empty() {
            parts.push(list(self.misfit.iter().cloned()));
        }
        parts.join("; ")
    }
}

/// The first few of some names, and how many more there are.
pub(crate) fn list(names: impl Iterator<Item = String>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(4).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The network of a map in a state dict: `None` if no name begins as its names do.
pub(crate) fn evaluate(
    map: &NameMap,
    network: &NetworkNames,
    scope: &Scope,
    options: &ReadOptions,
) -> Option<Result<Candidate, Faults>> {
    let tensors = match map.apply(network, &scope.tensors, &options.ignore)? {
        Ok(tensors) => tensors,
        Err(twice) => return Some(Err(Faults::of(format!("two tensors would be called `{twice}`")))),
    };
    Some(judge(map, network, scope, options, tensors))
}

fn judge(
    map: &NameMap,
    network: &NetworkNames,
    scope: &Scope,
    options: &ReadOptions,
    mut tensors: BTreeMap<String, FileTensor>,
) -> Result<Candidate, Faults> {
    let inside = take_normalization(&mut tensors, scope).map_err(Faults::of)?;
    for name in ["cls_token", "pos_embed"] {
        // CLIP has them without the axis of the batch.
        if let Some(tensor) = tensors.get_mut(name).filter(|tensor| (1..3).contains(&tensor.shape.len())) {
            tensor.shape.splice(0..0, vec![1; 3 - tensor.shape.len()]);
        }
    }
    let both =
        if options.both_branches { Some(batch_norms::both(&tensors).map_err(Faults::of)?) } else { None };
    let (tensors, branch) =
        batch_norms::choose(tensors, options.branch, map.branch.unwrap_or(1)).map_err(Faults::of)?;
    let mut config = infer(&tensors, options.heads.or(map.heads)).map_err(Faults::of)?;
    if let Some(clip) = &mut config.variant.clip {
        clip.quick_gelu = map.quick_gelu;
    }
    let tensors = match both {
        Some(both) => {
            config.norm = BatchNormMode::Dual;
            both
        }
        None => tensors,
    };
    let padding = options.stem_padding.unwrap_or(map.stem_padding);
    if config.arch.name().ends_with("-cifar") {
        config.variant.stem_padding = (padding != 1).then_some(padding);
        config.variant.linear_stem = map.linear_stem;
        config.check().map_err(|error| Faults::of(error.to_string()))?;
    }
    let mut faults = Faults::default();
    let expected = expected_shapes(&config, &tensors, scope.length).map_err(Faults::of)?;
    for (name, shape) in &expected {
        match tensors.get(name) {
            None if name.ends_with(".num_batches_tracked") => {}
            None => faults.missing.push(name.clone()),
            Some(tensor) if tensor.shape != *shape => faults.misfit.push(format!(
                "`{name}` has the shape {:?}, and {} has {shape:?}",
                tensor.shape,
                config.arch.name()
            )),
            Some(_) => {}
        }
    }
    faults.leftover = tensors.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
    if faults.distance() > 0 {
        return Err(faults);
    }
    Ok(Candidate { prefix: network.prefix.clone(), config, tensors, branch, inside })
}

/// Names and shapes of an encoder in PyTorch's orders.
///
/// # Errors
/// If it has many more values than the file: a few bytes can declare more than there is memory.
fn expected_shapes(
    config: &EncoderConfig,
    tensors: &BTreeMap<String, FileTensor>,
    length: u64,
) -> Result<BTreeMap<String, Vec<usize>>, String> {
    let held = tensors.values().fold(0u64, |sum, tensor| sum.saturating_add(tensor.byte_len()));
    if held > length.saturating_add(SHARED) {
        return Err(format!(
            "it declares {held} bytes of tensors, and has {length}: save it without compression, and without tensors that \
             repeat a value by their strides"
        ));
    }
    let values = config.value_count();
    // Two bytes a value at least; a missing layer shall still be found by name.
    if values / 2 > held {
        return Err(format!(
            "the network of its first layers has {values} values, and the file holds {held} bytes"
        ));
    }
    let mut shapes = BTreeMap::new();
    Encoder::zeros(config, &cpu()).visit(&mut |name, role, tensor| {
        let shape = tensor.shape();
        let shape = match (role, &shape[..]) {
            (Role::Weight, &[kh, kw, inputs, outputs]) => vec![outputs, inputs, kh, kw],
            (_, shape) => shape.to_vec(),
        };
        shapes.insert(name.to_owned(), shape);
    });
    Ok(shapes)
}

/// Takes the constants of a normalization out of the network, or reads them beside it.
fn take_normalization(
    tensors: &mut BTreeMap<String, FileTensor>,
    scope: &Scope,
) -> Result<Option<Inside>, String> {
    for [mean, std] in NORMALIZATIONS {
        let inside = tensors.contains_key(mean) && tensors.contains_key(std);
        let pair = if inside {
            [mean, std].map(|name| tensors.remove(name))
        } else {
            [mean, std].map(|name| scope.tensors.get(name).cloned())
        };
        let [Some(mean_tensor), Some(std_tensor)] = pair else { continue };
        let constants = |name: &str, tensor: &FileTensor| {
            let channels: Vec<usize> = tensor.shape.iter().copied().filter(|&extent| extent != 1).collect();
            if channels.len() > 1 || tensor.byte_len() > 1 << 16 {
                return Err(format!(
                    "`{name}` has the shape {:?}, and one constant a channel is read",
                    tensor.shape
                ));
            }
            let values = tensor.floats().map_err(|error: io::Error| format!("`{name}` {error}"))?;
            match values.iter().find(|v| !v.is_finite()) {
                Some(value) => Err(format!("`{name}` holds {value}")),
                None => Ok(values.into_iter().map(f64::from).collect()),
            }
        };
        return Ok(Some((mean.to_owned(), [constants(mean, &mean_tensor)?, constants(std, &std_tensor)?])));
    }
    Ok(None)
}
