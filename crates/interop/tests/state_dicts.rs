//! Encoders in state dicts of other programs: found under the names of each, and refused by name where they are none.

mod common;

use std::path::Path;

use common::encoders::{acl, constants, file, network, number, resnet};
use common::{Tensor as Raw, Value, entries, nested, torch_zip};
use tarrl_encoders::checkpoint::{Metadata, Stored, Tensors, Values, save_encoder, state_dict};
use tarrl_encoders::{Arch, Variant};
use tarrl_interop::{Model, Normalization, ReadOptions, import_encoder, list_state_dict, save_state_dict};
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

/// The children of a ResNet by their numbers in a `Sequential`, of which the first stage has the number `first`.
fn child(name: &str, first: usize) -> String {
    let (head, tail) = name.split_once('.').unwrap();
    let at = match head {
        "conv1" => 0,
        "bn1" => 1,
        layer => layer["layer".len()..].parse::<usize>().unwrap() + first - 1,
    };
    format!("{at}.{tail}")
}

/// How a program saves a network.
struct Program {
    map: &'static str,
    container: &'static str,
    rename: fn(&str) -> String,
    /// Names and keys beside the network.
    tensors: &'static [&'static str],
    keys: &'static [&'static str],
    stem_padding: usize,
}

const LIGHTNING: &[&str] = &["epoch", "pytorch-lightning_version", "hyper_parameters"];

/// As the programs' own sources name them.
const PROGRAMS: &[Program] = &[
    Program {
        map: "torchvision",
        container: "",
        rename: |name| name.into(),
        tensors: &["fc.weight", "fc.bias"],
        keys: &[],
        stem_padding: 1,
    },
    Program {
        map: "solo-learn",
        container: "state_dict",
        rename: |name| format!("backbone.{name}"),
        tensors: &["momentum_backbone.conv1.weight", "projector.0.weight", "classifier.weight", "queue"],
        keys: LIGHTNING,
        stem_padding: 2,
    },
    Program {
        map: "lightly",
        container: "state_dict",
        rename: |name| format!("backbone.{}", child(name, 4)),
        tensors: &["projection_head.layers.0.weight"],
        keys: LIGHTNING,
        stem_padding: 1,
    },
    Program {
        map: "lightly-cifar",
        container: "state_dict",
        rename: |name| format!("backbone.{}", child(&name.replace("downsample", "shortcut"), 2)),
        tensors: &["projection_head.layers.0.weight"],
        keys: LIGHTNING,
        stem_padding: 1,
    },
    Program {
        map: "lightly-benchmarks",
        container: "state_dict",
        rename: |name| format!("backbone.{name}"),
        tensors: &["projection_head.layers.0.weight", "online_classifier.weight"],
        keys: LIGHTNING,
        stem_padding: 1,
    },
    Program {
        map: "barlow-twins",
        container: "model",
        rename: |name| format!("module.backbone.{name}"),
        tensors: &["module.projector.0.weight", "module.bn.running_mean"],
        keys: &["epoch", "optimizer"],
        stem_padding: 1,
    },
    Program {
        map: "vicreg",
        container: "model",
        rename: |name| format!("module.backbone.{name}"),
        tensors: &["module.projector.0.weight"],
        keys: &["epoch", "optimizer"],
        stem_padding: 1,
    },
    Program {
        map: "swav",
        container: "state_dict",
        rename: |name| format!("module.{name}"),
        tensors: &["module.projection_head.0.weight", "module.prototypes.weight"],
        keys: &["epoch"],
        stem_padding: 1,
    },
    Program {
        map: "moco",
        container: "state_dict",
        rename: |name| format!("module.encoder_q.{name}"),
        tensors: &["module.encoder_k.conv1.weight", "module.queue", "module.encoder_q.fc.0.weight"],
        keys: &["epoch", "arch"],
        stem_padding: 1,
    },
    Program {
        map: "moco-v3",
        container: "state_dict",
        rename: |name| format!("module.base_encoder.{name}"),
        tensors: &["module.momentum_encoder.conv1.weight", "module.base_encoder.fc.0.weight"],
        keys: &["epoch"],
        stem_padding: 1,
    },
    Program {
        map: "rocl",
        container: "model",
        rename: |name| format!("module.{}", name.replace("downsample", "shortcut")),
        tensors: &["module.linear.weight"],
        keys: &["acc", "epoch", "rng_state"],
        stem_padding: 1,
    },
    Program {
        map: "simclr-children",
        container: "",
        rename: |name| format!("module.f.{}", child(name, 3)),
        tensors: &["module.g.0.weight"],
        keys: &[],
        stem_padding: 1,
    },
    Program {
        map: "robustbench",
        container: "state_dict",
        rename: |name| format!("module.{}", name.replace("downsample", "shortcut")),
        tensors: &["module.linear.weight"],
        keys: &[],
        stem_padding: 1,
    },
    Program {
        map: "plain",
        container: "model",
        rename: |name| format!("encoder.module.{}", name.replace("downsample", "shortcut")),
        tensors: &["head.0.weight"],
        keys: &["opt"],
        stem_padding: 1,
    },
    Program {
        map: "plain",
        container: "",
        rename: |name| format!("_orig_mod.{name}"),
        tensors: &["_orig_mod.projector.0.weight"],
        keys: &[],
        stem_padding: 1,
    },
];

#[test]
fn encoders_are_found_under_the_names_of_each_program() {
    let encoder = resnet();
    let expected = state_dict(&encoder);
    for program in PROGRAMS {
        let mut tensors = entries(&expected, program.rename);
        tensors.extend(program.tensors.iter().map(|name| (name.to_string(), number(7.0))));
        let keys = program.keys.iter().map(|key| (key.to_string(), Value::Int(3))).collect();
        let file = file(&torch_zip(&nested(program.container, tensors, keys)));
        let found = import_encoder(&file.path, &ReadOptions::default(), &cpu())
            .unwrap_or_else(|error| panic!("{}: {error}", program.map));
        let text = found.summary.join("\n");
        assert!(text.contains(&format!("name map: {} (", program.map)), "{text}");
        assert_eq!(state_dict(&found.encoder), expected, "{}", program.map);
        let config = found.encoder.config();
        assert_eq!(config.arch, Arch::ResNet18Cifar);
        assert_eq!(config.variant.stem_padding.unwrap_or(1), program.stem_padding, "{}", program.map);
        assert_eq!(found.notes["source_map"], program.map);
        // Under its own name the map reads the same, and the list says that it fits.
        let options = ReadOptions { map: Some(program.map.into()), ..ReadOptions::default() };
        let again = import_encoder(&file.path, &options, &cpu()).unwrap();
        assert_eq!(state_dict(&again.encoder), expected);
        let lines = list_state_dict(&file.path, &ReadOptions::default()).unwrap();
        assert!(
            lines.iter().any(|line| line.starts_with(&format!("map {}: fits", program.map))),
            "{lines:?}"
        );
    }
}

/// DINO's teacher is evaluated, not its student; both are there.
#[test]
fn the_network_that_is_evaluated_is_taken_and_another_by_option() {
    let (teacher, student) = (resnet(), network(Arch::ResNet18Cifar, Variant::default()));
    let mut student_tensors = state_dict(&student);
    student_tensors.insert("conv1.weight".into(), Stored::new(&[4, 3, 3, 3], Values::F32(vec![0.5; 108])));
    let dino = Value::Dict(vec![
        ("student".into(), Value::Dict(entries(&student_tensors, |name| format!("module.backbone.{name}")))),
        ("teacher".into(), Value::Dict(entries(&state_dict(&teacher), |name| format!("backbone.{name}")))),
    ]);
    let file_of_dino = file(&torch_zip(&dino));
    let found = import_encoder(&file_of_dino.path, &ReadOptions::default(), &cpu()).unwrap();
    assert!(found.summary.join("\n").contains("state dict: under `teacher`"));
    assert_eq!(state_dict(&found.encoder), state_dict(&teacher));
    let options = ReadOptions { container: Some("student".into()), ..ReadOptions::default() };
    let found = import_encoder(&file_of_dino.path, &options, &cpu()).unwrap();
    assert_eq!(state_dict(&found.encoder), student_tensors);

    let mut moco = entries(&state_dict(&teacher), |name| format!("encoder_q.{name}"));
    moco.extend(entries(&student_tensors, |name| format!("encoder_k.{name}")));
    moco.push(("queue".into(), number(0.0)));
    let file = file(&torch_zip(&nested("state_dict", moco, vec![])));
    let options = ReadOptions { network: Some("encoder_k".into()), ..ReadOptions::default() };
    let found = import_encoder(&file.path, &options, &cpu()).unwrap();
    assert_eq!(state_dict(&found.encoder), student_tensors);
    assert!(found.summary.join("\n").contains("`encoder_q*` (120 tensors)"), "{:?}", found.summary);
}

#[test]
fn the_set_of_batch_norms_and_the_constants_inside_are_taken() {
    let encoder = resnet();
    let file = file(&torch_zip(&nested("state_dict", acl(&encoder), vec![("epoch".into(), Value::Int(1))])));
    let found = import_encoder(&file.path, &ReadOptions::default(), &cpu()).unwrap();
    let text = found.summary.join("\n");
    assert!(text.contains("batch norm: set 1 of 2, attacked images"), "{text}");
    assert!(text.contains("from `normalize.mean` of the file, as its program has it"), "{text}");
    assert_eq!(state_dict(&found.encoder), state_dict(&encoder));
    // 0.485 in single precision.
    assert!((found.encoder.config().mean[0] - 0.485).abs() < 1e-7);
    let clean =
        ReadOptions { branch: Some(0), normalization: Some(Normalization::None), ..ReadOptions::default() };
    let found = import_encoder(&file.path, &clean, &cpu()).unwrap();
    assert!(found.encoder.config().mean.is_empty());
    let Values::F32(scale) = state_dict(&found.encoder)["layer2.0.downsample.1.running_var"].values().clone()
    else {
        panic!("floats")
    };
    assert!(scale.iter().all(|&v| v == 1.0));
    let third = ReadOptions { branch: Some(2), ..ReadOptions::default() };
    let text = import_encoder(&file.path, &third, &cpu()).unwrap_err().to_string();
    assert!(text.contains("sets 0 to 1 of batch norms, and set 2 is asked for"), "{text}");
}

/// The network is in the file twice, once inside the attacker; the clamp to [0, 1] before it changes no pixel.
#[test]
fn checkpoints_of_robustness_and_deacl_have_their_constants() {
    let encoder = resnet();
    let tensors = state_dict(&encoder);
    let name = |prefix: &'static str| {
        move |name: &str| format!("{prefix}{}", name.replace("downsample", "shortcut"))
    };
    let mut madry = entries(&tensors, name("module.model."));
    madry.extend(entries(&tensors, name("module.attacker.model.")));
    madry.extend(constants(["module.normalizer.new_mean", "module.normalizer.new_std"], &[3, 1, 1]));
    madry.extend(constants(
        ["module.attacker.normalize.new_mean", "module.attacker.normalize.new_std"],
        &[3, 1, 1],
    ));
    madry.push(("module.model.linear.weight".into(), number(1.0)));
    let mut deacl = entries(&tensors, |name| format!("backbone.{name}"));
    deacl.extend(constants(["backbone.normalize.mean", "backbone.normalize.std"], &[3]));
    deacl.push(("momentum_projector.0.weight".into(), number(1.0)));
    for (map, container, file_tensors, padding) in
        [("robustness", "model", madry, None), ("deacl", "state_dict", deacl, Some(2))]
    {
        let file = file(&torch_zip(&nested(container, file_tensors, vec![])));
        let found = import_encoder(&file.path, &ReadOptions::default(), &cpu()).unwrap();
        let text = found.summary.join("\n");
        assert!(text.contains(&format!("name map: {map} (")) && text.contains("usually has"), "{text}");
        assert_eq!(state_dict(&found.encoder), tensors);
        assert_eq!(found.encoder.config().variant.stem_padding, padding);
        assert!((found.encoder.config().std[2] - 0.225).abs() < 1e-7);
    }
}

/// Of every architecture at another width, depth, patch or number of heads than usual, from names and shapes alone.
#[test]
fn architectures_are_inferred_from_names_and_shapes() {
    for (arch, variant, heads) in [
        (Arch::ResNet18, Variant::default(), None),
        (Arch::ResNet34Cifar, Variant::default(), None),
        (Arch::ResNet50, Variant::default(), None),
        (Arch::Wrn28x10, Variant::default(), None),
        (Arch::Wrn34x10, Variant { depth: Some(16), stem_channels: Some(16), ..Variant::default() }, None),
        (Arch::Vgg11, Variant::default(), None),
        (Arch::Vgg16, Variant::default(), None),
        (Arch::ConvSmall, Variant::default(), None),
        (
            Arch::VitTiny,
            Variant { depth: Some(2), patch: Some(8), heads: Some(2), ..Variant::default() },
            Some(2),
        ),
    ] {
        let encoder = network(arch, variant);
        let file = file(&torch_zip(&Value::Dict(entries(&state_dict(&encoder), |name| name.to_owned()))));
        let options =
            ReadOptions { heads, normalization: Some(Normalization::None), ..ReadOptions::default() };
        let found = import_encoder(&file.path, &options, &cpu()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found.encoder.config(), encoder.config());
        assert_eq!(state_dict(&found.encoder), state_dict(&encoder));
        let model = Model::open(&file.path, &options, &cpu()).unwrap();
        assert_eq!((model.dim(), model.channels()), (encoder.dim(), 3));
        assert_eq!(model.side(), arch.needs_side().then_some(16));
        let keys = [Key::new(3), Key::new(4)];
        let images = Tensor::random(&cpu(), Random::Uniform, &keys, &[16, 16, 3], DType::F32);
        let (ours, theirs) = (encoder.inference().forward(&images), model.forward(&images));
        assert_eq!(ours.to_vec::<f32>(), theirs.to_vec::<f32>(), "{}", arch.name());
    }
}

/// torchvision's names of a vision transformer, and the number of heads by option.
#[test]
fn vision_transformers_are_read_under_torchvisions_names() {
    let variant = Variant { depth: Some(2), patch: Some(4), heads: Some(2), ..Variant::default() };
    let encoder = network(Arch::VitTiny, Variant { patch: None, ..variant });
    let rename = |name: &str| {
        let name = match name {
            "cls_token" => return "class_token".into(),
            "pos_embed" => return "encoder.pos_embedding".into(),
            name if name.starts_with("patch_embed.proj") => {
                return name.replace("patch_embed.proj", "conv_proj");
            }
            name if name.starts_with("norm.") => return name.replace("norm.", "encoder.ln."),
            name => name.replace("blocks.", "encoder.layers.encoder_layer_"),
        };
        let name = name.replace("norm1", "ln_1").replace("norm2", "ln_2");
        let name = name
            .replace("attn.qkv.", "self_attention.in_proj_")
            .replace("attn.proj", "self_attention.out_proj");
        name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
    };
    let mut tensors = entries(&state_dict(&encoder), rename);
    tensors.push(("heads.head.weight".into(), number(1.0)));
    let file = file(&torch_zip(&Value::Dict(tensors)));
    let text = import_encoder(&file.path, &ReadOptions::default(), &cpu()).unwrap_err().to_string();
    assert!(text.contains("give --heads"), "{text}");
    let options = ReadOptions { heads: Some(2), ..ReadOptions::default() };
    let found = import_encoder(&file.path, &options, &cpu()).unwrap();
    assert!(found.summary.join("\n").contains("name map: torchvision-vit ("), "{:?}", found.summary);
    assert_eq!(state_dict(&found.encoder), state_dict(&encoder));
}

/// Half types exactly, doubles rounded, counts of batches absent.
#[test]
fn types_are_converted_and_counts_of_batches_may_lack() {
    let encoder = resnet();
    // 1.5 in bfloat16 and half, 0.1 in double precision.
    for (storage, bytes, value, noted) in [
        ("BFloat16Storage", vec![0xc0, 0x3f], 1.5, "BF16 to F32, exactly"),
        ("HalfStorage", vec![0x00, 0x3e], 1.5, "F16 to F32, exactly"),
        ("DoubleStorage", 0.1f64.to_le_bytes().to_vec(), 0.1f32, "F64 to F32, rounded"),
    ] {
        let tensors: Vec<(String, Value)> = state_dict(&encoder)
            .iter()
            .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
            .map(|(name, stored)| {
                let count = stored.shape().iter().product();
                let raw = Raw::new(storage, stored.shape(), bytes.len(), bytes.repeat(count));
                (name.clone(), Value::Tensor(raw))
            })
            .collect();
        let file = file(&torch_zip(&Value::Dict(tensors)));
        let found = import_encoder(&file.path, &ReadOptions::default(), &cpu()).unwrap();
        let text = found.summary.join("\n");
        assert!(text.contains(noted) && text.contains("counts of batches: 20 are missing"), "{text}");
        for (name, stored) in state_dict(&found.encoder) {
            match stored.values() {
                Values::F32(values) => assert!(values.iter().all(|&v| v == value), "{name}"),
                counts => assert_eq!(counts, &Values::I64(vec![0]), "{name}"),
            }
        }
    }
}

/// The error of an import of these tensors.
fn refused(tensors: Vec<(String, Value)>, options: &ReadOptions) -> String {
    let file = file(&torch_zip(&Value::Dict(tensors)));
    let error = import_encoder(&file.path, options, &cpu()).unwrap_err().to_string();
    assert!(error.starts_with(file.path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn what_is_missing_left_over_or_of_another_shape_is_named() {
    let tensors = state_dict(&resnet());
    let plain = || entries(&tensors, |name| name.to_owned());
    let none = ReadOptions::default();
    let without = |name: &str| plain().into_iter().filter(|(n, _)| n != name).collect::<Vec<_>>();
    let with = |name: &str, value: Value| {
        let mut file = plain();
        file.retain(|(n, _)| n != name);
        file.push((name.to_owned(), value));
        file
    };
    let text = refused(without("layer4.1.bn2.bias"), &none);
    assert!(
        text.contains("it lacks `layer4.1.bn2.bias`") && text.contains("nearest name map, torchvision"),
        "{text}"
    );
    let text = refused(with("rotation.weight", number(1.0)), &none);
    assert!(text.contains("it has also `rotation.weight`") && text.contains("--ignore rotation."), "{text}");
    let ignoring = ReadOptions { ignore: vec!["rotation.".into()], ..ReadOptions::default() };
    let file_of_it = file(&torch_zip(&Value::Dict(with("rotation.weight", number(1.0)))));
    assert_eq!(state_dict(&import_encoder(&file_of_it.path, &ignoring, &cpu()).unwrap().encoder), tensors);
    let text = refused(with("layer2.0.bn1.bias", number(1.0)), &none);
    assert!(text.contains("`layer2.0.bn1.bias` has the shape [1], and resnet18-cifar has [8]"), "{text}");
    let text = refused(with("bn1.bias", Value::Tensor(Raw::f32(&[4], &[0.0, f32::NAN, 0.0, 0.0]))), &none);
    assert!(text.contains("`bn1.bias` holds NaN"), "{text}");
    let text = refused(with("bn1.bias", Value::Tensor(Raw::i64(&[4], &[1, 2, 3, 4]))), &none);
    assert!(text.contains("`bn1.bias` is of type I64"), "{text}");
    let text = refused(vec![("weights.0".into(), number(1.0))], &none);
    assert!(text.contains("no architecture that is read"), "{text}");
    let misspelled = ReadOptions { map: Some("soloearn".into()), ..ReadOptions::default() };
    let file_of_it = file(&torch_zip(&Value::Dict(plain())));
    let text = import_encoder(&file_of_it.path, &misspelled, &cpu()).unwrap_err().to_string();
    assert!(text.contains("did you mean solo-learn?"), "{text}");
    let several =
        Value::Dict(vec![("model".into(), Value::Dict(plain())), ("model_ema".into(), Value::Dict(plain()))]);
    let file_of_it = file(&torch_zip(&several));
    let text = import_encoder(&file_of_it.path, &none, &cpu()).unwrap_err().to_string();
    assert!(text.contains("`model` and `model_ema`") && text.contains("--container"), "{text}");
    let chosen = ReadOptions { container: Some("model_ema".into()), ..ReadOptions::default() };
    assert_eq!(state_dict(&import_encoder(&file_of_it.path, &chosen, &cpu()).unwrap().encoder), tensors);
}

#[test]
fn networks_that_only_look_like_one_are_refused_by_name() {
    let tensors = state_dict(&resnet());
    let renamed =
        |from: &'static str, to: &'static str| entries(&tensors, move |name| name.replace(from, to));
    let none = ReadOptions::default();
    for (from, to, expected) in [
        ("layer1.0.conv1.weight", "layer1.0.conv1.lora_A", "LoRA"),
        ("layer1.0.conv1.weight", "layer1.0.conv1.weight_g", "remove_weight_norm"),
        ("layer1.0.conv1.weight", "layer1.0.conv1.weight_orig", "remove_spectral_norm"),
        (
            "layer1.0.conv1.weight",
            "layer1.0.conv1.parametrizations.weight.original0",
            "remove_parametrizations",
        ),
        ("layer4.1.", "layer4.0.se.", "squeeze and excitation"),
    ] {
        let text = refused(renamed(from, to), &none);
        assert!(text.contains(expected), "{text}");
    }
    let preact = entries(&tensors, |name| name.replace("downsample", "shortcut"))
        .into_iter()
        .filter(|(name, _)| !name.contains("shortcut.1."))
        .collect();
    assert!(refused(preact, &none).contains("PreActResNets"), "PreActResNet");
    let vgg = network(Arch::Vgg11, Variant::default());
    let plain =
        state_dict(&vgg).into_iter().filter(|(name, _)| !name.contains("running")).collect::<Tensors>();
    assert!(refused(entries(&plain, |name| name.to_owned()), &none).contains("without batch norm"));
}

/// A map of one's own, and one that is no map.
#[test]
fn a_map_of_the_user_is_read_from_its_file() {
    let encoder = resnet();
    let rename = |name: &str| format!("my.net.{}", name.replace("layer", "stage"));
    let file = file(&torch_zip(&Value::Dict(entries(&state_dict(&encoder), rename))));
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("mine.toml");
    let options = ReadOptions { map: Some(map.to_str().unwrap().into()), ..ReadOptions::default() };
    std::fs::write(
        &map,
        "name = \"mine\"\nabout = \"a net of mine\"\nnetworks = [{ prefix = \"my.net.\", is = \"the net\" }]\n\
         rename = [[\"stage\", \"layer\"]]\nstem_padding = 2\n",
    )
    .unwrap();
    let found = import_encoder(&file.path, &options, &cpu()).unwrap();
    assert_eq!(state_dict(&found.encoder), state_dict(&encoder));
    assert_eq!(found.encoder.config().variant.stem_padding, Some(2));
    // Constants that the user gives are those of the network, whatever its size.
    let with_constants = std::fs::read_to_string(&map).unwrap()
        + "[normalization.outside]\nmean = [0.5, 0.4, 0.3]\nstd = [0.2, 0.2, 0.1]\n";
    std::fs::write(&map, with_constants).unwrap();
    let config = import_encoder(&file.path, &options, &cpu()).unwrap().encoder.config().clone();
    assert_eq!((config.mean, config.std), (vec![0.5, 0.4, 0.3], vec![0.2, 0.2, 0.1]));
    std::fs::write(&map, "name = 3").unwrap();
    let text = import_encoder(&file.path, &options, &cpu()).unwrap_err().to_string();
    assert!(text.contains("mine.toml") && text.contains("is no name map"), "{text}");
}

fn save_safetensors(path: &Path, tensors: &Tensors) {
    std::fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

/// Written, read by the safetensors crate alone, and read again as the same encoder; a checkpoint of ours is told apart.
#[test]
fn state_dicts_and_checkpoints_of_ours_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let encoder = resnet();
    let head: Vec<f32> = (0..3 * encoder.dim()).map(|i| i as f32 / 8.0).collect();
    save_state_dict(&path, &encoder, Some((&head, &[0.0, 1.0, 2.0]))).unwrap();
    let found = import_encoder(&path, &ReadOptions::default(), &cpu()).unwrap();
    assert_eq!(state_dict(&found.encoder), state_dict(&encoder));
    assert!(found.summary.join("\n").contains("`fc*` (2 tensors)"), "{:?}", found.summary);

    save_safetensors(&path, &state_dict(&encoder));
    let found = import_encoder(&path, &ReadOptions::default(), &cpu()).unwrap();
    assert_eq!(state_dict(&found.encoder), state_dict(&encoder));

    save_encoder(&path, &encoder, &Metadata::new()).unwrap();
    let found = import_encoder(&path, &ReadOptions::default(), &cpu()).unwrap();
    assert_eq!(found.summary[0], "format: a checkpoint of this program");
    assert_eq!(state_dict(&found.encoder), state_dict(&encoder));
}
