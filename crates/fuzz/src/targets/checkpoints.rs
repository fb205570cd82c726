//! Targets of checkpoints: encoders of ours, heads in safetensors and JSON.

use crate::target::{Target, none};
use crate::{repair, scratch::Scratch};
use tarrl_bound::LinearHead;
use tarrl_encoders::checkpoint::{Metadata, load_encoder, save_encoder, save_tensors, state_dict};
use tarrl_encoders::{Arch, Encoder, EncoderConfig};
use tarrl_study::heads::AnyHead;
use tarrl_study::stages::head::HeadFile;
use tarrl_tensor::{Device, Key};

const WORDS: &[&str] = &[
    "F32",
    "F64",
    "I64",
    "U64",
    "BF16",
    "F16",
    "BOOL",
    "\"shape\":[",
    "\"data_offsets\":[0,0]",
    "__metadata__",
    "tarrl",
    "conv1.weight",
    "bn1.running_var",
    "num_batches_tracked",
    "\\\"width\\\":",
    "\\\"side\\\":",
    "resnet18-cifar",
    "vit-tiny",
];

pub(super) const ENCODER: Target =
    Target { name: "encoder", seeds: encoders, words: WORDS, repair: repair::checkpoint, read: read_encoder };

pub(super) const HEAD: Target = Target {
    name: "head",
    seeds: heads,
    words: &["F64", "F32", "weight", "bias", "encoder_blake3", "\"shape\":["],
    repair: repair::checkpoint,
    read: |bytes, scratch| read_head(bytes, scratch, "head.safetensors"),
};

pub(super) const JSON_HEAD: Target = Target {
    name: "json-head",
    seeds: json_heads,
    words: &[
        "kind",
        "linear",
        "mlp",
        "regression",
        "weight",
        "bias",
        "targets",
        "encoder_blake3",
        "[[",
        "{\"k\":",
    ],
    repair: none,
    read: |bytes, scratch| read_head(bytes, scratch, "head.json"),
};

/// Encoders of a few hundred values.
fn small_encoders(device: &Device) -> Vec<Encoder> {
    let conv = EncoderConfig { width: 0.02, ..EncoderConfig::default() };
    let mlp = EncoderConfig { arch: Arch::Mlp, side: 3, width: 0.005, ..EncoderConfig::default() };
    [conv, mlp].map(|config| Encoder::new(&config, device, Key::new(1))).into()
}

fn encoders() -> Vec<Vec<u8>> {
    let scratch = Scratch::new();
    let write = |encoder: Encoder| {
        let path = scratch.path("encoder.safetensors");
        save_encoder(&path, &encoder, &Metadata::new()).expect("it is finite and the folder writable");
        std::fs::read(path).expect("it was written")
    };
    small_encoders(&scratch.device).into_iter().map(write).collect()
}

fn read_encoder(bytes: &[u8], scratch: &Scratch) -> bool {
    let path = scratch.file("encoder.safetensors", bytes);
    let Ok(encoder) = load_encoder(&path, &scratch.device) else { return false };
    let again = scratch.path("again.safetensors");
    save_encoder(&again, &encoder, &Metadata::new()).expect("what was read is finite");
    let again = load_encoder(&again, &scratch.device).expect("what was written is read");
    assert!(state_dict(&again) == state_dict(&encoder) && again.config() == encoder.config());
    true
}

fn heads() -> Vec<Vec<u8>> {
    let scratch = Scratch::new();
    let head = LinearHead::new(3, 2, vec![1.0, -0.5, 0.25, 2.0, 0.0, -1.0], vec![0.0, 0.5, -0.5]);
    let write = |encoder: Option<String>| {
        let path = scratch.path("head.safetensors");
        HeadFile { head: head.clone(), encoder }.save(&path).expect("the folder is writable");
        std::fs::read(path).expect("it was written")
    };
    let mut files = vec![write(None), write(Some("0123456789abcdef".to_owned()))];
    // A checkpoint that is no head.
    let path = scratch.path("other.safetensors");
    save_tensors(&path, &state_dict(&small_encoders(&scratch.device)[0]), &Metadata::new())
        .expect("the folder is writable");
    files.push(std::fs::read(path).expect("it was written"));
    files
}

fn json_heads() -> Vec<Vec<u8>> {
    [
        r#"{"k": 2, "d": 3, "weight": [1, 0, 0, 0, 1.5, 0], "bias": [0, -0.25], "encoder_blake3": "00ff"}"#,
        r#"{"kind": "mlp", "d": 2, "h": 1, "hidden": [1, 2], "hidden_bias": [0], "k": 2, "weight": [1, -1], "bias": [0, 0]}"#,
        r#"{"kind": "regression", "d": 2, "o": 1, "weight": [1, 2], "bias": [0.5], "targets": [1, 2, 3]}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn read_head(bytes: &[u8], scratch: &Scratch, name: &str) -> bool {
    let Ok((head, encoder)) = AnyHead::read(&scratch.file(name, bytes)) else { return false };
    assert!(head.features() > 0 && head.classes().is_none_or(|classes| classes > 1));
    match head {
        AnyHead::Linear(head) => {
            let logits = head.logits(&vec![0.5; head.features()]);
            assert_eq!(logits.len(), head.classes());
            let path = scratch.path("again.safetensors");
            HeadFile { head: head.clone(), encoder: encoder.clone() }
                .save(&path)
                .expect("what was read is finite");
            let again = HeadFile::load(&path).expect("what was written is read");
            assert!(again.head == head && again.encoder == encoder);
        }
        AnyHead::Mlp { layers, .. } => assert_eq!(layers[0].rows().len(), layers[0].bias.len()),
        AnyHead::Regression { layer, targets, .. } => assert_eq!(targets.len() % layer.rows().len(), 0),
    }
    true
}
