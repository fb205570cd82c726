//! Files as lightly, solo-learn and PyTorch write them today.

mod common;

use common::{Tensor as Raw, Value, entries, nested, torch_zip};
use tarrl_encoders::checkpoint::state_dict;
use tarrl_encoders::{Arch, Encoder, EncoderConfig, Variant};
use tarrl_interop::{Imported, ReadOptions, import_encoder};
use tarrl_tensor::{Key, cpu};

fn network(arch: Arch, variant: Variant) -> Encoder {
    let side = if arch.needs_side() { 16 } else { 0 };
    // A transformer of 192 dimensions, whose heads are a guess, and a narrow ResNet.
    let width = if arch == Arch::VitTiny { 1.0 } else { 1.0 / 16.0 };
    let config = EncoderConfig { arch, width, in_channels: 3, side, variant, ..EncoderConfig::default() };
    Encoder::new(&config, &cpu(), Key::new(1))
}

fn imported(container: &str, tensors: Vec<(String, Value)>, keys: &[&str]) -> Imported {
    let keys = keys.iter().map(|key| (key.to_string(), Value::Int(3))).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.ckpt");
    std::fs::write(&path, torch_zip(&nested(container, tensors, keys))).unwrap();
    import_encoder(&path, &ReadOptions::default(), &cpu()).unwrap_or_else(|error| panic!("{error}"))
}

fn number(name: &str) -> (String, Value) {
    (name.to_owned(), Value::Tensor(Raw::f32(&[1], &[7.0])))
}

const LIGHTNING: &[&str] = &["epoch", "global_step", "pytorch-lightning_version", "loops", "callbacks"];

/// Names as solo-learn 1.0.6 with Lightning 2.6 writes them, which has no hyper-parameters in the file.
#[test]
fn solo_learns_stem_has_padding_2_without_hyper_parameters() {
    let encoder = network(Arch::ResNet18Cifar, Variant::default());
    for beside in [&["projector.0.weight"][..], &["head.mlp.0.weight", "momentum_backbone.conv1.weight"]] {
        let mut tensors = entries(&state_dict(&encoder), |name| format!("backbone.{name}"));
        tensors.extend(beside.iter().chain(&["classifier.weight"]).map(|name| number(name)));
        let found = imported("state_dict", tensors, LIGHTNING);
        assert_eq!(found.notes["source_map"], "solo-learn");
        assert_eq!(found.encoder.config().variant.stem_padding, Some(2));
        assert_eq!(state_dict(&found.encoder), state_dict(&encoder));
    }
    // A program of one's own is not known to have that padding.
    let mut tensors = entries(&state_dict(&encoder), |name| format!("backbone.{name}"));
    tensors.push(number("classifier.weight"));
    let found = imported("state_dict", tensors, &[LIGHTNING, &["hyper_parameters"]].concat());
    assert_eq!(found.notes["source_map"], "plain");
    assert!(found.summary.join("\n").contains("stem padding 1, a guess"), "{:?}", found.summary);
}

/// lightly's own ResNet calls the ReLU after its stem in `forward`, so that a Sequential of its children has none.
#[test]
fn the_children_of_lightlys_resnet_have_no_relu_after_the_stem() {
    let encoder = network(Arch::ResNet18Cifar, Variant::default());
    let child = |name: &str| {
        let (head, tail) = name.split_once('.').unwrap();
        let at = match head {
            "conv1" => 0,
            "bn1" => 1,
            stage => stage["layer".len()..].parse::<usize>().unwrap() + 1,
        };
        format!("backbone.{at}.{}", tail.replace("downsample", "shortcut"))
    };
    let mut tensors = entries(&state_dict(&encoder), child);
    tensors.push(number("projection_head.layers.0.weight"));
    let found = imported("state_dict", tensors, LIGHTNING);
    assert_eq!(found.notes["source_map"], "lightly-cifar");
    assert!(found.encoder.config().variant.linear_stem);
    assert!(found.summary.join("\n").contains("no ReLU after the stem"), "{:?}", found.summary);
}

/// Names of lightly's examples: students and teachers, and transformers that a module wraps.
#[test]
fn lightlys_teachers_and_wrapped_transformers_are_read() {
    let resnet = network(Arch::ResNet18, Variant::default());
    let child = |prefix: &str, name: &str| {
        let (head, tail) = name.split_once('.').unwrap();
        let at = match head {
            "conv1" => 0,
            "bn1" => 1,
            stage => stage["layer".len()..].parse::<usize>().unwrap() + 3,
        };
        format!("{prefix}{at}.{tail}")
    };
    let student = network(Arch::ResNet18, Variant::default());
    let mut tensors = entries(&state_dict(&student), |name| child("student_backbone.", name));
    tensors.extend(entries(&state_dict(&resnet), |name| child("teacher_backbone.", name)));
    tensors.push(number("teacher_head.layers.0.weight"));
    let found = imported("state_dict", tensors, LIGHTNING);
    assert!(found.notes["source_network"].ends_with("|teacher_backbone."), "{:?}", found.notes);
    assert_eq!(state_dict(&found.encoder), state_dict(&resnet));

    let variant = Variant { depth: Some(1), ..Variant::default() };
    let vit = network(Arch::VitTiny, variant);
    for prefix in ["backbone.vit.", "teacher_backbone.vit."] {
        let mut tensors = entries(&state_dict(&vit), |name| format!("{prefix}{name}"));
        tensors.extend([number("backbone.mask_token"), number("decoder.mask_token")]);
        let found = imported("state_dict", tensors, LIGHTNING);
        assert_eq!(found.notes["source_map"], "timm");
        assert_eq!(state_dict(&found.encoder), state_dict(&vit), "{prefix}");
        assert!(found.summary.join("\n").contains("3 heads, a guess"), "{:?}", found.summary);
    }
}

/// MoCo v3's transformers have 12 heads, of 16 dimensions at 192 of them (Chen et al. 2021, appendix).
#[test]
fn moco_v3_has_twelve_heads() {
    let vit = network(Arch::VitTiny, Variant { depth: Some(1), heads: Some(12), ..Variant::default() });
    let narrow = EncoderConfig { width: 0.25, ..vit.config().clone() };
    let vit = Encoder::new(&narrow, &cpu(), Key::new(1));
    let mut tensors = entries(&state_dict(&vit), |name| format!("module.base_encoder.{name}"));
    tensors
        .extend([number("module.momentum_encoder.cls_token"), number("module.base_encoder.head.0.weight")]);
    let found = imported("state_dict", tensors, &["epoch", "arch", "optimizer"]);
    assert_eq!(found.notes["source_map"], "moco-v3");
    assert_eq!(found.encoder.config().variant.heads, Some(12));
    assert!(found.summary.join("\n").contains("12 heads, as its program has it"), "{:?}", found.summary);
}

/// `torch.optim.swa_utils.AveragedModel` counts its updates beside the network.
#[test]
fn averaged_models_of_pytorch_are_read() {
    let encoder = network(Arch::ResNet18, Variant::default());
    for container in ["", "model_ema"] {
        let mut tensors = entries(&state_dict(&encoder), |name| format!("module.{name}"));
        tensors.push(("n_averaged".to_owned(), Value::Tensor(Raw::i64(&[], &[5]))));
        let found = imported(container, tensors, &["epoch"]);
        assert_eq!(state_dict(&found.encoder), state_dict(&encoder));
    }
}
