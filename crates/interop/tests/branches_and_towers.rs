//! Two sets of batch norms kept at once, towers of CLIP, and constants that belong to large images.

mod common;

use common::encoders::{acl, file, network, number, resnet};
use common::{Tensor as Raw, Value, entries, nested, torch_zip};
use tarrl_encoders::checkpoint::{Metadata, save_encoder, state_dict};
use tarrl_encoders::{Arch, BatchNormMode, BnBranch, ClipTower, Variant};
use tarrl_interop::{Model, ReadOptions, import_encoder};
use tarrl_tensor::cpu;

/// Constants of large images are not applied to a network that only small images have.
#[test]
fn the_normalization_of_large_images_is_theirs_alone() {
    for (arch, normalized) in [(Arch::ConvSmall, false), (Arch::ResNet18Cifar, false), (Arch::ResNet18, true)]
    {
        let encoder = network(arch, Variant::default());
        let tensors = entries(&state_dict(&encoder), |name| name.to_owned());
        let file = file(&torch_zip(&Value::Dict(tensors)));
        let options = ReadOptions { map: Some("torchvision".into()), ..ReadOptions::default() };
        let found = import_encoder(&file.path, &options, &cpu()).unwrap();
        assert_eq!(found.encoder.config().mean.is_empty(), !normalized, "{arch:?}");
    }
}

/// Both sets are kept for training, and each of them alone is the encoder that would have been read.
#[test]
fn both_sets_of_batch_norms_are_taken_on_request() {
    let encoder = resnet();
    let file_of_two = file(&torch_zip(&nested("state_dict", acl(&encoder), vec![])));
    let both = ReadOptions { both_branches: true, ..ReadOptions::default() };
    let found = import_encoder(&file_of_two.path, &both, &cpu()).unwrap();
    assert_eq!(found.encoder.config().norm, BatchNormMode::Dual);
    let text = found.summary.join("\n");
    assert!(text.contains("batch norm: sets 0 and 1 of 2, clean and attacked images"), "{text}");
    for (set, branch) in [(0, BnBranch::Clean), (1, BnBranch::Adversarial)] {
        let one = ReadOptions { branch: Some(set), ..ReadOptions::default() };
        let one = import_encoder(&file_of_two.path, &one, &cpu()).unwrap();
        assert_eq!(state_dict(&found.encoder.only(branch)), state_dict(&one.encoder));
    }
    // A checkpoint of it has both, and the choice is made where it is used.
    let path = file_of_two.path.with_extension("safetensors");
    save_encoder(&path, &found.encoder, &Metadata::new()).unwrap();
    for set in [0, 1] {
        let one = ReadOptions { branch: Some(set), ..ReadOptions::default() };
        let [kept, read] =
            [&path, &file_of_two.path].map(|path| import_encoder(path, &one, &cpu()).unwrap().encoder);
        assert_eq!(state_dict(&kept), state_dict(&read));
    }
    let text = Model::open(&file_of_two.path, &both, &cpu()).unwrap_err().to_string();
    assert!(text.contains("a network computes with one"), "{text}");
    let single = file(&torch_zip(&Value::Dict(entries(&state_dict(&encoder), |name| name.to_owned()))));
    let text = import_encoder(&single.path, &both, &cpu()).unwrap_err().to_string();
    assert!(text.contains("one set of batch norms, and both are asked for"), "{text}");
}

/// A tower of CLIP says everything but its activation.
#[test]
fn towers_of_clip_are_read_once_the_activation_is_chosen() {
    let clip = ClipTower { projection: Some(5), quick_gelu: true };
    let variant =
        Variant { depth: Some(2), heads: Some(4), patch: Some(8), clip: Some(clip), ..Variant::default() };
    let encoder = network(Arch::VitTiny, variant);
    let tensors = state_dict(&encoder);
    let rename = |name: &str| {
        let pairs = [
            ("cls_token", "class_embedding"),
            ("pos_embed", "positional_embedding"),
            ("patch_embed.proj.", "conv1."),
            ("norm_pre.", "ln_pre."),
            ("blocks.", "transformer.resblocks."),
            (".norm1.", ".ln_1."),
            (".norm2.", ".ln_2."),
            (".attn.qkv.", ".attn.in_proj_"),
            (".attn.proj.", ".attn.out_proj."),
            (".mlp.fc1.", ".mlp.c_fc."),
            (".mlp.fc2.", ".mlp.c_proj."),
        ];
        let name =
            if name.starts_with("norm.") { name.replace("norm.", "ln_post.") } else { name.to_owned() };
        pairs.iter().fold(name, |name, (ours, theirs)| name.replace(ours, theirs))
    };
    for prefix in ["", "visual."] {
        let mut of_file = entries(&tensors, |name| format!("{prefix}{}", rename(name)));
        for (name, value) in &mut of_file {
            // Without the axis of the batch, as CLIP has them.
            if let (true, Value::Tensor(raw)) = (name.ends_with("_embedding"), value) {
                let extents: Vec<usize> = raw.shape.iter().copied().filter(|&extent| extent != 1).collect();
                *raw = Raw::new(raw.storage, &extents, raw.width, raw.bytes.clone());
            }
        }
        if prefix == "visual." {
            of_file.push(("transformer.resblocks.0.ln_1.weight".into(), number(1.0)));
            of_file.push(("logit_scale".into(), number(1.0)));
        }
        let file = file(&torch_zip(&Value::Dict(of_file)));
        let heads = ReadOptions { heads: Some(4), ..ReadOptions::default() };
        let text = import_encoder(&file.path, &heads, &cpu()).unwrap_err().to_string();
        assert!(text.contains("fare") && text.contains("open-clip") && text.contains("--map"), "{text}");
        for (map, quick_gelu) in [("fare", true), ("open-clip", false)] {
            let options = ReadOptions { map: Some(map.into()), ..heads.clone() };
            let found = import_encoder(&file.path, &options, &cpu()).unwrap();
            assert_eq!(state_dict(&found.encoder), tensors, "{map}");
            let config = found.encoder.config();
            let expected = Variant { clip: Some(ClipTower { quick_gelu, ..clip }), ..variant };
            assert_eq!((config.variant, config.side, found.encoder.dim()), (expected, 16, 5));
            assert_eq!(config.mean, [0.48145466, 0.4578275, 0.40821073]);
            assert!(found.summary.join("\n").contains("since no file says it"), "{:?}", found.summary);
        }
    }
}
