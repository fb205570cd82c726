//! Import of encoders from checkpoints of other programs, by their naming schemes.

use super::error::{CheckpointError, Fault, list};
use super::file::load_plain;
use super::state_dict::load_state_dict;
use super::stored_tensor::Tensors;
use crate::encoder::Encoder;
use crate::module::Module;
use std::path::Path;

/// How a program names an encoder: prefixes of its names and what replaces them here. The first match counts.
type Renames = &'static [(&'static str, &'static str)];

/// The known naming schemes. Where a file has a momentum encoder too, the network that its authors evaluate is taken.
const NAMING_SCHEMES: &[Renames] = &[
    // torchvision, Barlow Twins, VICReg, TRADES, timm.
    &[("", "")],
    &[("module.", "")],
    // DINO, whose teacher is evaluated.
    &[("teacher.backbone.", ""), ("teacher.module.backbone.", "")],
    // solo-learn.
    &[("backbone.", "")],
    &[("module.backbone.", "")],
    // SupContrast.
    &[("encoder.", "")],
    // SimSiam.
    &[("module.encoder.", "")],
    // MoCo, of whose networks the trained one is evaluated.
    &[("module.encoder_q.", "")],
    &[("module.base_encoder.", "")],
    // W-MSE.
    &[("model.module.", "")],
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
/// TRADES, timm, and two of SimCLR on CIFAR-10. `shortcut` is `downsample`. What does not belong to the encoder is left
/// alone: heads, queues, classifiers, networks that follow.
///
/// Names do not tell everything: a stem with padding 2, or a ReLU that was left out, has the same.
///
/// # Errors
/// If the file cannot be read, or lacks tensors of this encoder under all these names, or has them in other shapes; the
/// encoder is then as before.
pub fn import_encoder(path: &Path, encoder: &mut Encoder) -> Result<(), CheckpointError> {
    let tensors = load_plain(path)?;
    let mut names = Vec::new();
    encoder.visit(&mut |name, _, _| names.push(name.to_string()));
    let mut fewest: Option<Vec<&String>> = None;
    for renames in NAMING_SCHEMES {
        let mut renamed = rename(&tensors, renames);
        let missing: Vec<&String> = names.iter().filter(|name| !renamed.contains_key(*name)).collect();
        if missing.is_empty() {
            return load_state_dict(encoder, &mut renamed).map_err(|fault| fault.at(path));
        }
        if fewest.as_ref().is_none_or(|fewest| missing.len() < fewest.len()) {
            fewest = Some(missing);
        }
    }
    let missing = fewest.unwrap_or_default();
    Err(Fault::Missing(list(missing.into_iter().map(String::as_str))).at(path))
}

fn rename(tensors: &Tensors, renames: Renames) -> Tensors {
    let known = |name: &str| {
        let (from, to) = renames.iter().find(|(from, _)| name.starts_with(from))?;
        Some(format!("{to}{}", &name[from.len()..]).replace(".shortcut.", ".downsample."))
    };
    tensors.iter().filter_map(|(name, stored)| Some((known(name)?, stored.clone()))).collect()
}
