//! Targets of state dicts of other programs: safetensors, and files of `torch.save`.

use crate::scratch::Scratch;
use crate::target::{Target, none};
use tarrl_encoders::checkpoint::{Metadata, Tensors, load_encoder, save_encoder, state_dict};
use tarrl_encoders::{Encoder, EncoderConfig};
use tarrl_interop::{ReadOptions, import_encoder, list_state_dict};
use tarrl_tensor::Key;

/// The writer of the tests of the reader.
#[path = "../../../interop/tests/common/mod.rs"]
mod torch_writer;

use torch_writer::{Value, entries, nested, torch_zip};

const WORDS: &[&str] = &[
    "F32",
    "F64",
    "I64",
    "BF16",
    "F16",
    "\"shape\":[",
    "\"data_offsets\":[0,0]",
    "__metadata__",
    "conv1.weight",
    "bn1.running_var",
    "bn_list.1.",
    "num_batches_tracked",
    "layer1.0.conv1.weight",
    "features.0.weight",
    "patch_embed.proj.weight",
    "pos_embed",
    "block1.layer.0.conv1.weight",
    "module.",
    "backbone.",
    "state_dict",
    "teacher",
    "model_ema",
    "normalize.mean",
    "weight_g",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nHalfStorage\n",
    "ctorch\nDoubleStorage\n",
    "ccollections\nOrderedDict\n",
    "PK\x03\x04",
];

pub(super) const SAFETENSORS: Target = Target {
    name: "foreign-encoder",
    seeds: safetensors_files,
    words: WORDS,
    repair: none,
    read: |bytes, scratch| read(bytes, scratch, "foreign.safetensors"),
};

pub(super) const PYTORCH: Target = Target {
    name: "pytorch-encoder",
    seeds: pytorch_files,
    words: WORDS,
    repair: none,
    read: |bytes, scratch| read(bytes, scratch, "foreign.pt"),
};

/// Maps of the files below.
const MAPS: [&str; 2] = [
    r#"name = "whole"
about = "a file that is the encoder"
networks = [{ prefix = "", is = "the encoder" }]
ignore = ["fc.", "projector."]
rename = [["^stem.", "conv1."], [".shortcut.", ".downsample."]]
[normalization]
none = true
"#,
    r#"name = "part"
about = "the encoder beside others"
requires = ["encoder_q."]
forbids = ["teacher."]
networks = [{ prefix = "encoder_q.", is = "the query encoder" }, { prefix = "", is = "the encoder" }]
stem_padding = 1
stem_padding_known = true
[normalization.outside]
mean = [0.25]
std = [0.5]
"#,
];

pub(super) const NAME_MAP: Target = Target {
    name: "name-map",
    seeds: || MAPS.iter().map(|map| map.as_bytes().to_vec()).collect(),
    words: &[
        "prefix",
        "is",
        "rename",
        "ignore",
        "requires",
        "forbids",
        "branch",
        "stem_padding",
        "normalization",
        "outside",
        "inside",
        "[\"^\", \"x\"]",
        "[\"\", \"xx\"]",
        "[\"weight\", \"weightweight\"]",
        "conv1.",
        "bn1.",
        "module.encoder_q.",
    ],
    repair: none,
    read: read_map,
};

/// A network of a few hundred values, whose width follows from its stem.
fn network() -> Tensors {
    let config = EncoderConfig { width: 1.0 / 32.0, ..EncoderConfig::default() };
    state_dict(&Encoder::new(&config, &Scratch::new().device, Key::new(1)))
}

/// Encoders as PyTorch's safetensors has them, under two naming schemes.
fn safetensors_files() -> Vec<Vec<u8>> {
    let tensors = network();
    let named = |prefix: &str| {
        let named = tensors.iter().map(|(name, stored)| (format!("{prefix}{name}"), stored));
        safetensors::serialize(named, None).expect("names and shapes are valid")
    };
    vec![named(""), named("module.encoder_q.")]
}

/// The same as `torch.save` writes them.
fn pytorch_files() -> Vec<Vec<u8>> {
    let tensors = network();
    let plain = Value::Dict(entries(&tensors, str::to_owned));
    let wrapped = entries(&tensors, |name| format!("module.backbone.{name}"));
    let others = vec![("epoch".into(), Value::Int(3)), ("arch".into(), Value::Text("conv".into()))];
    vec![torch_zip(&plain), torch_zip(&nested("state_dict", wrapped, others))]
}

fn read(bytes: &[u8], scratch: &Scratch, name: &str) -> bool {
    let path = scratch.file(name, bytes);
    let options = ReadOptions::default();
    let listed = list_state_dict(&path, &options);
    let Ok(found) = import_encoder(&path, &options, &scratch.device) else { return false };
    assert!(listed.is_ok(), "what is read can be listed");
    let again = scratch.path("again.safetensors");
    save_encoder(&again, &found.encoder, &Metadata::new()).expect("what was read is finite");
    let again = load_encoder(&again, &scratch.device).expect("what was written is read");
    assert!(state_dict(&again) == state_dict(&found.encoder));
    true
}

/// A map alone, and what it makes of files that others fit.
fn read_map(bytes: &[u8], scratch: &Scratch) -> bool {
    let map = scratch.file("map.toml", bytes);
    let options = ReadOptions { map: map.to_str().map(str::to_owned), ..ReadOptions::default() };
    let mut accepted = false;
    for (i, name) in ["mapped-0.safetensors", "mapped-1.safetensors"].iter().enumerate() {
        let path = scratch.path(name);
        if !path.exists() {
            scratch.file(name, &safetensors_files()[i]);
        }
        if let Ok(found) = import_encoder(&path, &options, &scratch.device) {
            let again = scratch.path("again.safetensors");
            save_encoder(&again, &found.encoder, &Metadata::new()).expect("what was read is finite");
            accepted = true;
        }
    }
    accepted
}
