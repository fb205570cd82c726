//! Encoders in files of other programs, for tests.

use std::path::PathBuf;

use super::{Tensor as Raw, Value, entries};
use tarrl_encoders::checkpoint::state_dict;
use tarrl_encoders::{Arch, Encoder, EncoderConfig, Module, Role, Variant};
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

/// A narrow network whose running statistics are none of the initial ones.
pub(crate) fn network(arch: Arch, variant: Variant) -> Encoder {
    let side = if arch.needs_side() { 16 } else { 0 };
    let config =
        EncoderConfig { arch, width: 1.0 / 16.0, in_channels: 3, side, variant, ..EncoderConfig::default() };
    let mut encoder = Encoder::new(&config, &cpu(), Key::new(1));
    encoder.visit_mut(&mut |name, role, tensor| {
        if role == Role::Buffer && tensor.dtype() == DType::F32 {
            let noise = Tensor::random(
                &cpu(),
                Random::Uniform,
                &[Key::new(2).fold(name)],
                tensor.shape(),
                DType::F32,
            );
            *tensor = noise.reshape(*tensor.shape()).add_scalar(0.25);
        }
    });
    encoder
}

pub(crate) fn resnet() -> Encoder {
    network(Arch::ResNet18Cifar, Variant::default())
}

/// A folder with one file.
pub(crate) struct File {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pth");
    std::fs::write(&path, bytes).unwrap();
    File { _folder: folder, path }
}

pub(crate) fn number(value: f32) -> Value {
    Value::Tensor(Raw::f32(&[1], &[value]))
}

/// Constants of a normalization under two names.
pub(crate) fn constants(names: [&str; 2], shape: &[usize]) -> Vec<(String, Value)> {
    let [mean, std] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
    [(names[0], mean), (names[1], std)]
        .map(|(name, values)| (name.to_owned(), Value::Tensor(Raw::f32(shape, &values))))
        .into()
}

/// The names of ACL: dual batch norms, another shortcut, the constants of ImageNet inside.
pub(crate) fn acl(encoder: &Encoder) -> Vec<(String, Value)> {
    let norm = |name: &str| {
        let (layer, _) = name.rsplit_once('.').unwrap();
        layer.contains("bn") || layer.ends_with("downsample.1")
    };
    let rename = |name: &str, set: usize| {
        let name =
            name.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.");
        let (layer, part) = name.rsplit_once('.').unwrap();
        format!("{layer}.bn_list.{set}.{part}")
    };
    let tensors = state_dict(encoder);
    let mut file = Vec::new();
    for (name, value) in entries(&tensors, |name| name.to_owned()) {
        if norm(&name) {
            // The first set is of ones, the second is the encoder's.
            let ones = match &value {
                Value::Tensor(raw) if raw.width == 4 => {
                    Value::Tensor(Raw::f32(&raw.shape, &vec![1.0; raw.shape.iter().product()]))
                }
                other => other.clone(),
            };
            file.push((rename(&name, 0), ones));
            file.push((rename(&name, 1), value));
        } else {
            file.push((name.replace("downsample.0.", "downsample.conv."), value));
        }
    }
    file.push(("fc.fc1.weight".into(), number(1.0)));
    file.push(("fc.bn1.bn_list.0.weight".into(), number(1.0)));
    file.extend(constants(["normalize.mean", "normalize.std"], &[3]));
    file
}
