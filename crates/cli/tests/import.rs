//! `tarrl import`: from a state dict of another program to a checkpoint that every other command reads.

use std::process::{Command, Output};

use tarrl_encoders::checkpoint::{Tensors, load_encoder, load_tensors, state_dict};
use tarrl_encoders::{Arch, Encoder, EncoderConfig};
use tarrl_tensor::{Key, cpu};

fn tarrl(folder: &std::path::Path, arguments: &[&str]) -> (Output, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let [out, error] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output, out, error)
}

#[test]
fn a_state_dict_becomes_a_checkpoint_that_names_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let config = EncoderConfig {
        arch: Arch::ResNet18Cifar,
        width: 0.0625,
        in_channels: 3,
        ..EncoderConfig::default()
    };
    let encoder = Encoder::new(&config, &cpu(), Key::new(1));
    let named: Tensors = state_dict(&encoder)
        .into_iter()
        .map(|(name, stored)| (format!("module.backbone.{name}"), stored))
        .collect();
    let model = folder.path().join("model.safetensors");
    std::fs::write(&model, safetensors::serialize(&named, None).unwrap()).unwrap();

    let (_, listed, _) = tarrl(folder.path(), &["import", "model.safetensors", "--list"]);
    assert!(listed.contains("map plain: fits `backbone.*` as resnet18-cifar"), "{listed}");
    let arguments = [
        "import",
        "model.safetensors",
        "--normalization",
        "cifar10",
        "--stem-padding",
        "2",
        "--out",
        "e.safetensors",
    ];
    let (output, printed, error) = tarrl(folder.path(), &arguments);
    assert!(output.status.success(), "{error}");
    assert!(
        printed.contains("stem padding 2, as asked") && printed.contains("mean 0.4914 0.4822 0.4465"),
        "{printed}"
    );
    let written = folder.path().join("e.safetensors");
    let found = load_encoder(&written, &cpu()).unwrap();
    assert_eq!(state_dict(&found), state_dict(&encoder));
    let (_, notes) = load_tensors(&written).unwrap();
    let source = std::fs::read(&model).unwrap();
    assert_eq!(notes["source_blake3"], blake3::hash(&source).to_hex().as_str());
    assert_eq!(notes["source_map"], "plain");

    let (output, _, error) =
        tarrl(folder.path(), &["import", "model.safetensors", "--out", "model.safetensors"]);
    assert!(!output.status.success() && error.contains("input of this command"), "{error}");
    std::fs::write(folder.path().join("page.pt"), "<!DOCTYPE html>").unwrap();
    let (output, _, error) = tarrl(folder.path(), &["import", "page.pt", "--list"]);
    assert!(!output.status.success() && error.contains("page.pt") && error.contains("web page"), "{error}");
    let (_, _, error) =
        tarrl(folder.path(), &["import", "model.safetensors", "--list", "--normalization", "1,2"]);
    assert!(error.contains("imagenet"), "{error}");
}
