//! Import of encoders from checkpoints of other programs, by their naming schemes.

use super::error::{CheckpointError, Fault, list};
use super::foreign::{ImportWarning, Views, is_batch_count, load_views, with_views};
use crate::encoder::Encoder;
use crate::module::Module;
use std::path::Path;

/// How a program names an encoder: prefixes of its names and what replaces them here. The first match counts.
type Renames = &'static [(&'static str, &'static str)];

/// Components of names that PyTorch's wrappers add: data parallelism and averages, and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// The call that undoes a reparametrization, and the ends of the names of its parts, in place of `weight`.
const REPARAMETRIZATIONS: [(&str, &[&str]); 3] = [
    (
        "torch.nn.utils.parametrize.remove_parametrizations",
        &["parametrizations.weight.original0", "parametrizations.weight.original"],
    ),
    ("torch.nn.utils.remove_weight_norm", &["weight_g", "weight_v"]),
    ("torch.nn.utils.remove_spectral_norm", &["weight_orig"]),
];

/// The known naming schemes, without wrappers. Where a file has a momentum encoder too, the network that its authors evaluate is taken.
const NAMING_SCHEMES: &[Renames] = &[
    // torchvision, Barlow Twins, VICReg, TRADES, timm.
    &[("", "")],
    // DINO, whose teacher is evaluated.
    &[("teacher.backbone.", "")],
    // solo-learn.
    &[("backbone.", "")],
    // SupContrast, SimSiam.
    &[("encoder.", "")],
    // MoCo, of whose networks the trained one is evaluated.
    &[("encoder_q.", "")],
    &[("base_encoder.", "")],
    // W-MSE.
    &[("model.", "")],
    // lightly's benchmarks of CIFAR-10.
    &[
        ("backbone.0.", "conv1."),
        ("backbone.1.", "bn1."),
        ("backbone.2.", "layer1."),
        ("backbone.3.", "layer2."),
        ("backbone.4.", "layer3."),
        ("backbone.5.", "layer4."),
    ],
    // Two programs of SimCLR on CIFAR-10, one of which keeps the ReLU as a child.
    &[
        ("f.0.", "conv1."),
        ("f.1.", "bn1."),
        ("f.3.", "layer1."),
        ("f.4.", "layer2."),
        ("f.5.", "layer3."),
        ("f.6.", "layer4."),
    ],
    &[("enc.", "")],
];

/// Replaces the tensors of an encoder by those of a safetensors file from elsewhere, under the names of whatever program
/// wrote it: torchvision, solo-learn, lightly, SupContrast, MoCo v1 to v3, SimSiam, Barlow Twins, VICReg, DINO, W-MSE,
/// TRADES, timm, and two of SimCLR on CIFAR-10, wrapped by `torch.compile` or data parallelism or not. `shortcut` is
/// `downsample`. What does not belong to the encoder is left alone, of whatever type and value it is: heads, queues,
/// classifiers, networks that follow. F16 and BF16 become F32, which is exact; counts of batches may be lacking; tensors
/// that `save_model` of safetensors left out as duplicates are found under their other names.
///
/// Names do not tell everything: a stem with padding 2, or a ReLU that was left out, has the same.
///
/// # Errors
/// If the file cannot be read, or lacks tensors of this encoder under all these names, or has them in other shapes, or
/// has in their place the parts of a weight norm or spectral norm; the encoder is then as before.
pub fn import_encoder(path: &Path, encoder: &mut Encoder) -> Result<Option<ImportWarning>, CheckpointError> {
    with_views(path, |views| {
        let views = unwrap(views);
        let mut names = Vec::new();
        encoder.visit(&mut |name, _, _| {
            if !is_batch_count(name) {
                names.push(name.to_string());
            }
        });
        let schemes = NAMING_SCHEMES.iter().map(|renames| {
            let renamed = rename(&views, renames);
            let missing: Vec<&String> = names.iter().filter(|name| !renamed.contains_key(*name)).collect();
            (missing, renamed)
        });
        let (missing, renamed) =
            schemes.min_by_key(|(missing, _)| missing.len()).expect("there are naming schemes");
        if missing.is_empty() {
            return load_views(encoder, &renamed);
        }
        match missing.iter().find_map(|name| reparametrization(name, &renamed)) {
            Some(fault) => Err(fault),
            None => Err(Fault::Missing(list(missing.into_iter().map(String::as_str)))),
        }
    })
}

/// The views under names without [`WRAPPERS`]. Where a network is there with and without them, the shorter name counts.
fn unwrap(views: Views<'_>) -> Views<'_> {
    let mut by_length: Vec<_> = views.into_iter().collect();
    by_length.sort_by_key(|(name, _)| name.len());
    let mut unwrapped = Views::new();
    for (name, view) in by_length {
        let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
        unwrapped.entry(parts.join(".")).or_insert(view);
    }
    unwrapped
}

fn rename<'a>(views: &Views<'a>, renames: Renames) -> Views<'a> {
    let known = |name: &str| {
        let (from, to) = renames.iter().find(|(from, _)| name.starts_with(from))?;
        Some(format!("{to}{}", &name[from.len()..]).replace(".shortcut.", ".downsample."))
    };
    views.iter().filter_map(|(name, view)| Some((known(name)?, view.clone()))).collect()
}

/// The fault of a weight of which only parts are there.
fn reparametrization(name: &str, views: &Views<'_>) -> Option<Fault> {
    let layer = name.strip_suffix("weight")?;
    let found = |(remedy, ends): &(&'static str, &[&str])| {
        let part = ends.iter().map(|end| format!("{layer}{end}")).find(|part| views.contains_key(part))?;
        Some(Fault::Reparametrized { part, remedy })
    };
    REPARAMETRIZATIONS.iter().find_map(found)
}
