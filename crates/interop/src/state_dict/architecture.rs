//! The architecture of an encoder, inferred from the names and shapes of its tensors.

use std::collections::BTreeMap;

use tarrl_encoders::{Arch, ClipTower, EncoderConfig, Variant};

use super::tensor_file::FileTensor;

/// Dimensions of a head of attention in all published transformers of the usual sizes.
const HEAD: usize = 64;

/// The architecture whose tensors these are, without normalization and padding.
///
/// # Errors
/// What is not read, and why.
pub(crate) fn infer(
    tensors: &BTreeMap<String, FileTensor>,
    heads: Option<usize>,
) -> Result<EncoderConfig, String> {
    if let Some(cause) = refusal(tensors) {
        return Err(cause);
    }
    let has = |name: &str| tensors.contains_key(name);
    let found = if has("patch_embed.proj.weight") {
        transformer(tensors, heads)
    } else if has("block1.layer.0.conv1.weight") {
        wide_resnet(tensors)
    } else if has("features.0.weight") {
        vgg(tensors)
    } else if has("layer1.0.conv1.weight") {
        resnet(tensors)
    } else if has("conv4.weight") && has("bn4.weight") && has("conv1.weight") {
        conv_small(tensors)
    } else {
        return Err(
            "no architecture that is read has such tensors: it is no ResNet, WideResNet, VGG, vision \
                    transformer or ConvSmall; export such a network to ONNX"
                .to_owned(),
        );
    }?;
    found.check().map_err(|error| error.to_string())?;
    Ok(found)
}

/// Networks that look like one that is read, and are not.
fn refusal(tensors: &BTreeMap<String, FileTensor>) -> Option<String> {
    let find = |test: &dyn Fn(&str) -> bool| tensors.keys().find(|name| test(name));
    if let Some(name) = find(&|name| name.contains("lora_") || name.ends_with("conv1.conv.weight")) {
        return Some(format!(
            "`{name}` is of LoRA, whose two factors belong to a weight: merge them before saving"
        ));
    }
    for (ends, remedy) in [
        (
            ["parametrizations.weight.original0", "parametrizations.weight.original"],
            "torch.nn.utils.parametrize.remove_parametrizations",
        ),
        (["weight_g", "weight_v"], "torch.nn.utils.remove_weight_norm"),
        (["weight_orig", "weight_u"], "torch.nn.utils.remove_spectral_norm"),
    ] {
        if let Some(name) = find(&|name| ends.iter().any(|end| name.ends_with(end))) {
            return Some(format!(
                "`{name}` is only a part of a weight that PyTorch computes in each pass: call {remedy} on the module \
                 before saving"
            ));
        }
    }
    for (piece, cause) in [
        ("reg_token", "register tokens"),
        ("fc_norm.", "a pooling over all tokens with a normalization of its own"),
        ("gamma_1", "layer scale"),
        (".ls1.", "layer scale"),
        ("q_norm.", "normalized queries"),
        (".se.", "squeeze and excitation"),
    ] {
        if let Some(name) = find(&|name| name.contains(piece)) {
            return Some(format!("`{name}` belongs to {cause}, which is not read"));
        }
    }
    let preact = find(&|name| {
        ["downsample", "shortcut"].iter().any(|kind| {
            let block = name.strip_suffix(".0.weight").and_then(|name| name.strip_suffix(kind));
            block.is_some_and(|block| !tensors.contains_key(&format!("{block}{kind}.1.weight")))
        })
    });
    preact.map(|name| {
        format!("`{name}` is a shortcut without a batch norm, as in PreActResNets, which are not read")
    })
}

fn shape<'a>(
    tensors: &'a BTreeMap<String, FileTensor>,
    name: &str,
    rank: usize,
) -> Result<&'a [usize], String> {
    let tensor = tensors.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
    if tensor.shape.len() != rank || tensor.shape.contains(&0) {
        return Err(format!("`{name}` has the shape {:?}, and {rank} axes are expected", tensor.shape));
    }
    Ok(&tensor.shape)
}

/// The number of children `0`, `1`, … of `prefix`.
fn children(tensors: &BTreeMap<String, FileTensor>, prefix: &str) -> usize {
    let is_child = |i: usize| {
        let start = format!("{prefix}{i}.");
        tensors.range(start.clone()..).next().is_some_and(|(name, _)| name.starts_with(&start))
    };
    (0..).take_while(|&i| is_child(i)).count()
}

fn resnet(tensors: &BTreeMap<String, FileTensor>) -> Result<EncoderConfig, String> {
    let stem = shape(tensors, "conv1.weight", 4)?;
    let large = match stem[2..] {
        [3, 3] => false,
        [7, 7] => true,
        _ => return Err(format!("`conv1.weight` has the shape {stem:?}: a stem of 3×3 or 7×7 is read")),
    };
    let blocks = [1, 2, 3, 4].map(|stage| children(tensors, &format!("layer{stage}.")));
    let bottleneck = tensors.contains_key("layer1.0.conv3.weight");
    let arch = match (blocks, bottleneck, large) {
        ([2, 2, 2, 2], false, false) => Arch::ResNet18Cifar,
        ([3, 4, 6, 3], false, false) => Arch::ResNet34Cifar,
        ([3, 4, 6, 3], true, false) => Arch::ResNet50Cifar,
        ([2, 2, 2, 2], false, true) => Arch::ResNet18,
        ([3, 4, 6, 3], false, true) => Arch::ResNet34,
        ([3, 4, 6, 3], true, true) => Arch::ResNet50,
        _ => {
            let kind = if bottleneck { "bottleneck" } else { "basic" };
            return Err(format!("it has {blocks:?} {kind} blocks; ResNet-18, 34 and 50 are read"));
        }
    };
    Ok(EncoderConfig { arch, width: stem[0] as f64 / 64.0, in_channels: stem[1], ..EncoderConfig::default() })
}

fn wide_resnet(tensors: &BTreeMap<String, FileTensor>) -> Result<EncoderConfig, String> {
    let stem = shape(tensors, "conv1.weight", 4)?;
    let first = shape(tensors, "block1.layer.0.conv1.weight", 4)?;
    let depth = 6 * children(tensors, "block1.layer.") + 4;
    let width = first[0] as f64 / 160.0;
    let (arch, published) = if depth == 28 { (Arch::Wrn28x10, 28) } else { (Arch::Wrn34x10, 34) };
    let stem_channels = ((16.0 * width).round().max(1.0) as usize != stem[0]).then_some(stem[0]);
    let variant =
        Variant { depth: (depth != published).then_some(depth), stem_channels, ..Variant::default() };
    Ok(EncoderConfig { arch, width, in_channels: stem[1], variant, ..EncoderConfig::default() })
}

fn vgg(tensors: &BTreeMap<String, FileTensor>) -> Result<EncoderConfig, String> {
    let stem = shape(tensors, "features.0.weight", 4)?;
    if !tensors.contains_key("features.1.running_mean") {
        return Err("it is a VGG without batch norm, which is not read".to_owned());
    }
    let convolutions = tensors
        .iter()
        .filter(|(name, tensor)| name.starts_with("features.") && tensor.shape.len() == 4)
        .count();
    let arch = match convolutions {
        8 => Arch::Vgg11,
        10 => Arch::Vgg13,
        13 => Arch::Vgg16,
        16 => Arch::Vgg19,
        _ => {
            return Err(format!(
                "it is a VGG of {convolutions} convolutions; those of 8, 10, 13 and 16 are read"
            ));
        }
    };
    Ok(EncoderConfig { arch, width: stem[0] as f64 / 64.0, in_channels: stem[1], ..EncoderConfig::default() })
}

fn transformer(
    tensors: &BTreeMap<String, FileTensor>,
    heads: Option<usize>,
) -> Result<EncoderConfig, String> {
    let embed = shape(tensors, "patch_embed.proj.weight", 4)?;
    let positions = shape(tensors, "pos_embed", 3)?;
    let (d, patch) = (embed[0], embed[2]);
    let tokens = positions[1] - 1;
    let grid = tokens.isqrt();
    if embed[3] != patch || grid * grid != tokens {
        return Err(format!(
            "patches of {patch}×{} and {tokens} of them: squares of both are read",
            embed[3]
        ));
    }
    let heads = match heads {
        Some(heads) if heads > 0 && d % heads == 0 => heads,
        Some(heads) => return Err(format!("{d} dimensions cannot be split into {heads} heads")),
        None if d % HEAD == 0 => d / HEAD,
        None => {
            return Err(format!(
                "{d} dimensions are no multiple of {HEAD}, and the number of heads is not in the file: give --heads"
            ));
        }
    };
    let depth = children(tensors, "blocks.");
    let clip = match (tensors.contains_key("norm_pre.weight"), tensors.contains_key("proj")) {
        (false, _) => None,
        (true, false) => Some(ClipTower::default()),
        (true, true) => {
            Some(ClipTower { projection: Some(shape(tensors, "proj", 2)?[1]), ..ClipTower::default() })
        }
    };
    let variant = Variant {
        depth: (depth != 12).then_some(depth),
        heads: (heads != 3).then_some(heads),
        patch: (patch != 4).then_some(patch),
        clip,
        ..Variant::default()
    };
    Ok(EncoderConfig {
        arch: Arch::VitTiny,
        width: d as f64 / (HEAD * heads) as f64,
        in_channels: embed[1],
        side: grid.saturating_mul(patch),
        variant,
        ..EncoderConfig::default()
    })
}

fn conv_small(tensors: &BTreeMap<String, FileTensor>) -> Result<EncoderConfig, String> {
    let stem = shape(tensors, "conv1.weight", 4)?;
    // Channels are rounded, so that several widths give those of one layer: the width is one that gives them all.
    let (mut least, mut most) = (0.0, f64::INFINITY);
    for (name, base) in
        [("conv1.weight", 32.0), ("conv2.weight", 64.0), ("conv3.weight", 64.0), ("conv4.weight", 128.0)]
    {
        let channels = shape(tensors, name, 4)?[0] as f64;
        least = f64::max(least, (channels - 0.5) / base);
        most = f64::min(most, (channels + 0.5) / base);
    }
    let exact = stem[0] as f64 / 32.0;
    let width = if (least..most).contains(&exact) { exact } else { 0.5 * (least + most) };
    Ok(EncoderConfig { width, in_channels: stem[1], ..EncoderConfig::default() })
}
