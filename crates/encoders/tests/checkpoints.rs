//! Checkpoints on disk: round trips, PyTorch's layout, and one clear error for each failure.

mod common;

use common::{SIDE, images, tiny, with_random_norms};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::Path;
use tarrl_encoders::checkpoint::{
    CheckpointError, Fault, ImportWarning, Metadata, Stored, Tensors, Values, import, import_encoder, load,
    load_encoder, load_state_dict, load_tensors, save, save_encoder, save_tensors, state_dict,
};
use tarrl_encoders::{
    Arch, BATCH_NORM_MOMENTUM, Encoder, EncoderConfig, ForwardContext, Module, Projector, ProjectorConfig,
    cast,
};
use tarrl_tensor::{DType, Key, cpu};

fn trained(arch: Arch) -> Encoder {
    let device = cpu();
    let mut encoder = with_random_norms(&tiny(arch), &device, Key::new(3));
    let mut pass = ForwardContext::train();
    encoder.forward(&images(&device, Key::new(4), [3, SIDE, 3]), &mut pass);
    encoder.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
    encoder
}

#[test]
fn an_encoder_comes_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    for arch in Arch::ALL {
        let encoder = trained(arch);
        let notes = Metadata::from([("method".into(), "tarr".into()), ("epoch".into(), "7".into())]);
        save_encoder(&path, &encoder, &notes).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = load_encoder(&path, &cpu()).unwrap();
        assert_eq!(read.config(), encoder.config());
        assert_eq!(state_dict(&read), state_dict(&encoder));
        let x = images(&cpu(), Key::new(5), [2, SIDE, 3]);
        let z = |e: &Encoder| e.forward(&x, &mut ForwardContext::eval()).to_vec::<f32>();
        assert_eq!(z(&read), z(&encoder));
        assert_eq!(load_tensors(&path).unwrap().1["epoch"], "7");

        save_encoder(&path, &read, &notes).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "the same content has the same bytes");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }
}

/// Read with the safetensors crate alone, as PyTorch would.
#[test]
fn files_have_pytorchs_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    save_encoder(&path, &encoder, &Metadata::new()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 120);

    let kernel = file.tensor("layer2.0.conv1.weight").unwrap();
    assert_eq!(kernel.shape(), [8, 4, 3, 3]);
    assert_eq!(kernel.dtype(), safetensors::Dtype::F32);
    let mut ours = None;
    encoder.visit(&mut |name, _, tensor| {
        if name == "layer2.0.conv1.weight" {
            ours = Some(tensor.array().to_ndarray::<f32>());
        }
    });
    let ours = ours.unwrap();
    for (i, word) in kernel.data().chunks_exact(4).enumerate() {
        let (out, input, h, w) = (i / 36, i / 9 % 4, i / 3 % 3, i % 3);
        assert_eq!(f32::from_le_bytes(word.try_into().unwrap()), ours[[h, w, input, out]]);
    }
    let count = file.tensor("layer4.1.bn2.num_batches_tracked").unwrap();
    assert_eq!((count.dtype(), count.shape()), (safetensors::Dtype::I64, &[][..]));
    assert_eq!(count.data(), 1i64.to_le_bytes());
    assert_eq!(file.tensor("layer3.0.downsample.0.weight").unwrap().shape(), [16, 8, 1, 1]);

    let projector = Projector::new(
        &ProjectorConfig { hidden: 6, out: 4, layers: 2, ..Default::default() },
        5,
        &cpu(),
        Key::new(0),
    );
    assert_eq!(state_dict(&projector)["projector.0.weight"].shape(), [6, 5]);
    assert_eq!(state_dict(&projector)["projector.3.weight"].shape(), [4, 6]);
}

/// A file as PyTorch's exporter writes it: no metadata of ours.
#[test]
fn files_from_elsewhere_are_imported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("torch.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    let mut tensors = state_dict(&encoder);
    std::fs::write(&path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    let mut other = Encoder::new(encoder.config(), &cpu(), Key::new(12));
    assert!(explains(&load(&path, &mut other).unwrap_err(), &path).contains("checkpoint::import"));
    assert_eq!(import(&path, &mut other).unwrap(), None);
    assert_eq!(state_dict(&other), state_dict(&encoder));

    tensors.insert("fc.bias".into(), Stored::new(&[10], Values::F32(vec![0.0; 10])));
    std::fs::write(&path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    assert!(explains(&import(&path, &mut other).unwrap_err(), &path).contains("has also `fc.bias`"));
    tensors.remove("fc.bias");
    let channels = tensors["bn1.bias"].shape()[0];
    tensors.insert("bn1.bias".into(), Stored::new(&[channels], Values::F32(vec![f32::NAN; channels])));
    std::fs::write(&path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    assert!(explains(&import(&path, &mut other).unwrap_err(), &path).contains("not finite"));
}

/// Tensors of a stage, an entry of the stem and one of a shortcut under the names of each program, with its own heads,
/// queues and followers beside them, which must not be taken.
#[test]
fn encoders_are_found_in_files_of_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    let tensors = state_dict(&encoder);
    type Rename = fn(&str) -> String;
    let children = |prefix: &str, first: usize, name: &str| -> String {
        let (head, tail) = name.split_once('.').unwrap();
        let at = match head {
            "conv1" => 0,
            "bn1" => 1,
            layer => layer["layer".len()..].parse::<usize>().unwrap() + first - 1,
        };
        format!("{prefix}.{at}.{tail}")
    };
    let programs: [(Rename, &[&str]); 13] = [
        (|name| name.into(), &["fc.weight"]),
        (|name| format!("module.{name}"), &["module.fc.weight"]),
        (
            |name| format!("backbone.{name}"),
            &["momentum_backbone.conv1.weight", "projector.0.weight", "queue"],
        ),
        (|name| format!("module.backbone.{name}"), &["module.projector.0.weight"]),
        (|name| format!("encoder.{}", name.replace("downsample", "shortcut")), &["head.0.weight"]),
        (
            |name| format!("module.encoder.{name}"),
            &["module.encoder.fc.0.weight", "module.predictor.0.weight"],
        ),
        (|name| format!("module.encoder_q.{name}"), &["module.encoder_k.conv1.weight", "module.queue"]),
        (|name| format!("module.base_encoder.{name}"), &["module.momentum_encoder.conv1.weight"]),
        (
            |name| format!("teacher.backbone.{name}"),
            &["student.backbone.conv1.weight", "teacher.head.mlp.0.weight"],
        ),
        (|name| format!("teacher.module.backbone.{name}"), &["student.module.backbone.conv1.weight"]),
        (|name| format!("model.module.{name}"), &["head.0.weight"]),
        (|name| name.into(), &["g.0.weight"]),
        (|name| format!("enc.{name}"), &["projector.0.weight"]),
    ];
    let of = |rename: &dyn Fn(&str) -> String, others: &[&str]| {
        let mut file: Tensors = tensors.iter().map(|(name, stored)| (rename(name), stored.clone())).collect();
        for other in others {
            file.insert(other.to_string(), Stored::new(&[1], Values::F32(vec![7.0])));
        }
        std::fs::write(&path, safetensors::serialize(&file, None).unwrap()).unwrap();
        let mut found = Encoder::new(encoder.config(), &cpu(), Key::new(12));
        import_encoder(&path, &mut found).unwrap();
        assert_eq!(state_dict(&found), tensors, "{:?}", file.keys().next());
    };
    for (rename, others) in programs {
        of(&rename, others);
    }
    let shortcut = |name: &str| name.replace("downsample", "shortcut");
    of(&|name| children("backbone", 2, &shortcut(name)), &["projection_head.layers.0.weight"]);
    of(&|name| children("f", 3, name), &["g.0.weight"]);
}

/// Bytes of a safetensors file with tensors of any type.
fn write_views(path: &Path, views: &[(String, Dtype, Vec<usize>, Vec<u8>)], metadata: &[(&str, &str)]) {
    let views = views.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    std::fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

/// The tensors of an encoder as another program writes them, each changed by `edit`.
type View = (String, Dtype, Vec<usize>, Vec<u8>);
fn views_of(encoder: &Encoder, edit: impl Fn(View) -> Option<View>) -> Vec<View> {
    let tensors = state_dict(encoder);
    let view = |(name, stored): (&String, &Stored)| {
        let (dtype, bytes): (_, Vec<u8>) = match stored.values() {
            Values::F32(v) => (Dtype::F32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Values::I64(v) => (Dtype::I64, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
            other => unreachable!("{other:?}"),
        };
        edit((name.clone(), dtype, stored.shape().to_vec(), bytes))
    };
    tensors.iter().filter_map(view).collect()
}

/// The result of an import into a new encoder, and the encoder.
fn imported(encoder: &Encoder, path: &Path) -> (Result<Option<ImportWarning>, CheckpointError>, Encoder) {
    let mut found = Encoder::new(encoder.config(), &cpu(), Key::new(12));
    (import_encoder(path, &mut found), found)
}

#[test]
fn tensors_beside_the_encoder_may_have_any_type_and_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    let mut views =
        views_of(&encoder, |(name, ..)| Some((format!("backbone.{name}"), Dtype::F32, vec![], vec![])))
            .into_iter()
            .zip(views_of(&encoder, Some))
            .map(|((name, ..), (_, dtype, shape, bytes))| (name, dtype, shape, bytes))
            .collect::<Vec<_>>();
    views.extend([
        ("mask".into(), Dtype::BOOL, vec![2], vec![0, 1]),
        ("step".into(), Dtype::I32, vec![], vec![0; 4]),
        ("scale".into(), Dtype::F16, vec![1], vec![0, 0x7c]),
        ("queue".into(), Dtype::F32, vec![1], f32::NAN.to_le_bytes().to_vec()),
        ("backbone.relative_position_index".into(), Dtype::U8, vec![1], vec![9]),
    ]);
    write_views(&path, &views, &[("format", "pt")]);
    let (result, found) = imported(&encoder, &path);
    assert_eq!(result.unwrap(), None);
    assert_eq!(state_dict(&found), state_dict(&encoder));
}

#[test]
fn half_types_are_converted_and_counts_of_batches_may_lack() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    // The value 1.5 in both types: only its high bits are set.
    for (dtype, bytes) in [(Dtype::BF16, [0xc0, 0x3f]), (Dtype::F16, [0x00, 0x3e])] {
        let half = |(name, _, shape, old): View| {
            let bytes = bytes.repeat(old.len() / 4);
            (!name.ends_with("num_batches_tracked")).then_some((name, dtype, shape, bytes))
        };
        write_views(&path, &views_of(&encoder, half), &[]);
        let (result, found) = imported(&encoder, &path);
        assert_eq!(result.unwrap(), None);
        let mut whole = Encoder::new(encoder.config(), &cpu(), Key::new(1));
        import(&path, &mut whole).unwrap();
        assert_eq!(state_dict(&found), state_dict(&whole));
        for (name, stored) in state_dict(&found) {
            match stored.values() {
                Values::F32(values) => assert!(values.iter().all(|&v| v == 1.5), "{name}"),
                counts => assert_eq!(counts, &Values::I64(vec![0]), "{name}"),
            }
        }
    }
    let bad = |(name, dtype, shape, bytes): View| match name.as_str() {
        "bn1.bias" => Some((name, Dtype::I32, shape, bytes)),
        _ => Some((name, dtype, shape, bytes)),
    };
    write_views(&path, &views_of(&encoder, bad), &[]);
    let text = explains(&imported(&encoder, &path).0.unwrap_err(), &path);
    assert!(text.contains("`bn1.bias` is of type I32") && !text.contains("delete"), "{text}");
}

#[test]
fn names_that_save_model_left_out_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    let kept = |(name, dtype, shape, bytes): View| {
        let name = if name == "conv1.weight" { "another.stem".into() } else { format!("backbone.{name}") };
        Some((name, dtype, shape, bytes))
    };
    write_views(
        &path,
        &views_of(&encoder, kept),
        &[("backbone.conv1.weight", "another.stem"), ("format", "pt")],
    );
    let (result, found) = imported(&encoder, &path);
    assert_eq!(result.unwrap(), None);
    assert_eq!(state_dict(&found), state_dict(&encoder));
}

#[test]
fn wrappers_of_pytorch_are_seen_through_and_split_weights_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    for prefix in
        ["_orig_mod.", "module.", "module.module.", "_orig_mod.module.encoder_q.", "backbone._orig_mod."]
    {
        let wrapped =
            |(name, dtype, shape, bytes): View| Some((format!("{prefix}{name}"), dtype, shape, bytes));
        write_views(&path, &views_of(&encoder, wrapped), &[]);
        let (result, found) = imported(&encoder, &path);
        assert_eq!(result.unwrap(), None, "{prefix}");
        assert_eq!(state_dict(&found), state_dict(&encoder), "{prefix}");
    }
    for (part, remedy) in [
        ("parametrizations.weight.original0", "parametrize.remove_parametrizations"),
        ("parametrizations.weight.original", "parametrize.remove_parametrizations"),
        ("weight_g", "remove_weight_norm"),
        ("weight_v", "remove_weight_norm"),
        ("weight_orig", "remove_spectral_norm"),
    ] {
        let split = |(name, dtype, shape, bytes): View| {
            let name = if name == "layer1.0.conv1.weight" { format!("layer1.0.conv1.{part}") } else { name };
            Some((format!("module.{name}"), dtype, shape, bytes))
        };
        write_views(&path, &views_of(&encoder, split), &[]);
        let text = explains(&imported(&encoder, &path).0.unwrap_err(), &path);
        assert!(text.contains(&format!("`layer1.0.conv1.{part}`")) && text.contains(remedy), "{text}");
    }
}

#[test]
fn running_means_that_are_all_zero_give_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    let untouched = |(name, dtype, shape, bytes): View| {
        let bytes = if name.ends_with("running_mean") { vec![0; bytes.len()] } else { bytes };
        Some((name, dtype, shape, bytes))
    };
    write_views(&path, &views_of(&encoder, untouched), &[]);
    let warning = imported(&encoder, &path).0.unwrap();
    assert_eq!(warning, Some(ImportWarning::ZeroRunningMeans));
    assert!(warning.unwrap().to_string().contains("all running means are 0"));
    // A network without batch norm has no means.
    let vit = trained(Arch::VitTiny);
    write_views(&path, &views_of(&vit, Some), &[]);
    assert_eq!(imported(&vit, &path).0.unwrap(), None);
}

#[test]
fn files_without_the_encoder_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let encoder = trained(Arch::ResNet18Cifar);
    let mut other = Encoder::new(encoder.config(), &cpu(), Key::new(12));
    let before = state_dict(&other);
    let mut refuse = |file: &Tensors| {
        std::fs::write(&path, safetensors::serialize(file, None).unwrap()).unwrap();
        let text = explains(&import_encoder(&path, &mut other).unwrap_err(), &path);
        assert_eq!(state_dict(&other), before, "a refused file changes nothing");
        text
    };
    let mut file: Tensors =
        state_dict(&encoder).into_iter().map(|(name, stored)| (format!("backbone.{name}"), stored)).collect();
    // The stem of large images.
    let large = Stored::new(&[4, 3, 7, 7], Values::F32(vec![0.0; 588]));
    file.insert("backbone.conv1.weight".into(), large);
    assert!(refuse(&file).contains("`conv1.weight` is F32[4, 3, 7, 7], but the network has F32[4, 3, 3, 3]"));
    file.remove("backbone.layer4.1.bn2.bias");
    assert!(refuse(&file).contains("lacks `layer4.1.bn2.bias`"));
}

#[test]
fn networks_and_other_state_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let encoder = trained(Arch::ConvSmall);
    let config = ProjectorConfig { hidden: 6, out: 4, layers: 2, ..Default::default() };
    let projector = Projector::new(&config, encoder.dim(), &cpu(), Key::new(1));
    let mut tensors = state_dict(&encoder);
    tensors.extend(state_dict(&projector));
    tensors.insert("optimizer.step".into(), Stored::new(&[], Values::U64(vec![u64::MAX])));
    save_tensors(&path, &tensors, &Metadata::new()).unwrap();

    let (mut read, _) = load_tensors(&path).unwrap();
    let mut other_encoder = Encoder::new(encoder.config(), &cpu(), Key::new(50));
    let mut other_projector = Projector::new(&config, encoder.dim(), &cpu(), Key::new(51));
    load_state_dict(&mut other_encoder, &mut read).unwrap();
    load_state_dict(&mut other_projector, &mut read).unwrap();
    assert_eq!(state_dict(&other_encoder), state_dict(&encoder));
    assert_eq!(state_dict(&other_projector), state_dict(&projector));
    assert_eq!(read.into_keys().collect::<Vec<_>>(), ["optimizer.step"]);
}

/// The error of loading `tensors` into a ConvSmall: it names the file, and the network is as before.
fn refusal(tensors: &Tensors) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    save_tensors(&path, tensors, &Metadata::new()).unwrap();
    let mut encoder = trained(Arch::ConvSmall);
    let before = state_dict(&encoder);
    let error = load(&path, &mut encoder).unwrap_err();
    assert_eq!(state_dict(&encoder), before, "a refused file changes nothing");
    explains(&error, &path)
}

fn explains(error: &CheckpointError, path: &Path) -> String {
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()) && text.contains("; "), "file, cause; remedy: {text}");
    assert!(!text.contains('\n'), "one line: {text}");
    text
}

#[test]
fn tensors_of_another_network_are_refused_by_name() {
    let good = state_dict(&trained(Arch::ConvSmall));
    let with = |name: &str, stored: Stored| {
        let mut tensors = good.clone();
        tensors.insert(name.into(), stored);
        refusal(&tensors)
    };
    let mut lacking = good.clone();
    for name in ["bn1.weight", "bn2.weight", "bn3.weight", "bn4.bias", "bn4.weight"] {
        lacking.remove(name);
    }
    let text = refusal(&lacking);
    assert!(text.contains("lacks `bn1.weight`, `bn2.weight`, `bn3.weight` and 2 more"), "{text}");

    let text = with("fc.weight", Stored::new(&[1], Values::F32(vec![0.0])));
    assert!(text.contains("has also `fc.weight`;"), "{text}");

    let text = with("bn1.weight", Stored::new(&[3], Values::F32(vec![0.0; 3])));
    assert!(text.contains("`bn1.weight` is F32[3], but the network has F32[2]"), "{text}");
    // Our own order instead of PyTorch's.
    let text = with("conv1.weight", Stored::new(&[3, 3, 3, 2], Values::F32(vec![0.0; 54])));
    assert!(
        text.contains("`conv1.weight` is F32[3, 3, 3, 2], but the network has F32[2, 3, 3, 3]"),
        "{text}"
    );
    let text = with("conv1.weight", Stored::new(&[54], Values::F32(vec![0.0; 54])));
    assert!(text.contains("`conv1.weight` is F32[54]"), "{text}");
    let text = with("bn1.bias", Stored::new(&[1, 1, 1, 1, 1, 1, 1, 2], Values::F32(vec![0.0; 2])));
    assert!(text.contains("`bn1.bias` is F32[1, 1, 1, 1, 1, 1, 1, 2]"), "{text}");

    let text = with("bn1.bias", Stored::new(&[2], Values::F64(vec![0.0; 2])));
    assert!(text.contains("`bn1.bias` is F64[2], but the network has F32[2]"), "{text}");
    let text = with("bn1.num_batches_tracked", Stored::new(&[], Values::I64(vec![-1])));
    assert!(text.contains("`bn1.num_batches_tracked`"), "{text}");
}

/// An extent of zero makes any other extent free of bytes.
#[test]
fn tensors_of_huge_shapes_without_values_are_refused() {
    let encoder = Encoder::new(&EncoderConfig::default(), &cpu(), Key::new(1));
    for shape in [[0, usize::MAX, usize::MAX, 3], [0, 1 << 40, 1 << 40, 1 << 40]] {
        let mut tensors = state_dict(&encoder);
        tensors.insert("conv1.weight".into(), Stored::new(&shape, Values::F32(vec![])));
        let fault = load_state_dict(&mut encoder.clone(), &mut tensors).unwrap_err();
        assert!(matches!(&fault, Fault::Misfit { name, .. } if name == "conv1.weight"), "{fault}");
    }
}

#[test]
fn double_precision_comes_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let mut encoder = trained(Arch::ConvSmall);
    cast(&mut encoder, DType::F64);
    save(&path, &encoder, &Metadata::new()).unwrap();
    let mut other = Encoder::new(encoder.config(), &cpu(), Key::new(9));
    assert!(load(&path, &mut other).is_err());
    cast(&mut other, DType::F64);
    load(&path, &mut other).unwrap();
    assert_eq!(state_dict(&other), state_dict(&encoder));
}

#[test]
fn unusable_paths_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = trained(Arch::ConvSmall);
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    for path in [folder.path().join("absent/w.safetensors"), file.join("w.safetensors"), folder.path().into()]
    {
        let text = explains(&save_encoder(&path, &encoder, &Metadata::new()).unwrap_err(), &path);
        assert!(text.contains("cannot be written"), "{text}");
        let text = explains(&load_encoder(&path, &cpu()).unwrap_err(), &path);
        assert!(text.contains("cannot be read"), "{text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_diverged_network_does_not_replace_a_good_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let mut encoder = trained(Arch::ConvSmall);
    save_encoder(&path, &encoder, &Metadata::new()).unwrap();
    let good = std::fs::read(&path).unwrap();
    encoder.visit_mut(&mut |name, _, tensor| {
        if name == "bn3.bias" {
            *tensor = tensor.mul_scalar(f64::NAN);
        }
    });
    let text = explains(&save_encoder(&path, &encoder, &Metadata::new()).unwrap_err(), &path);
    assert!(text.contains("`bn3.bias`") && text.contains("not finite"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), good);
}

#[test]
fn files_that_hold_no_encoder_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let tensors = state_dict(&trained(Arch::ConvSmall));
    let refused = |config: Option<&str>| {
        let metadata = config.map(|json| ("config".to_string(), json.to_string())).into_iter().collect();
        save_tensors(&path, &tensors, &metadata).unwrap();
        explains(&load_encoder(&path, &cpu()).unwrap_err(), &path)
    };
    assert!(refused(None).contains("no configuration"));
    assert!(refused(Some(r#"{"arch": "vgg"}"#)).contains("unknown variant `vgg`"));
    assert!(refused(Some(r#"{"width": -1}"#)).contains("`width`: -1 is not in (0, 64]"));
    assert!(refused(Some(r#"{"depth": 3}"#)).contains("unknown field `depth`"));
    // More than there is memory, declared in a few bytes.
    for config in [
        r#"{"arch": "wrn-34-10", "width": 64}"#,
        r#"{"arch": "mlp", "side": 4096, "in_channels": 4096, "width": 64}"#,
        r#"{"arch": "vit-tiny", "side": 4096}"#,
        r#"{"arch": "conv-flat", "side": 4096, "width": 64}"#,
        r#"{"in_channels": 4096, "width": 64}"#,
    ] {
        let text = refused(Some(config));
        assert!(text.contains("its configuration declares") && text.contains("the file holds"), "{text}");
    }
    assert!(refused(Some(r#"{"in_channels": 18446744073709551615}"#)).contains("`in_channels`"));
    assert!(refused(Some(r#"{"arch": "mlp", "side": 4611686018427387904}"#)).contains("`side`"));

    std::fs::write(&path, "not a checkpoint").unwrap();
    assert!(explains(&load_encoder(&path, &cpu()).unwrap_err(), &path).contains("is damaged"));
    std::fs::write(&path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    assert!(
        explains(&load_encoder(&path, &cpu()).unwrap_err(), &path).contains("not written by this program")
    );
}
