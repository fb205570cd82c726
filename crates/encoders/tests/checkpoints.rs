//! Checkpoints on disk: round trips, PyTorch's layout, and one clear error for each failure.

mod common;

use common::{SIDE, images, tiny, with_random_norms};
use std::path::Path;
use tarrl_encoders::checkpoint::{
    CheckpointError, Fault, Metadata, Stored, Tensors, Values, load, load_encoder, load_state_dict,
    load_tensors, save, save_encoder, save_tensors, state_dict,
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
    assert!(explains(&load_encoder(&path, &cpu()).unwrap_err(), &path).contains("is no safetensors file"));
    std::fs::write(&path, safetensors::serialize(&tensors, None).unwrap()).unwrap();
    assert!(explains(&load_encoder(&path, &cpu()).unwrap_err(), &path).contains("tarrl import"));
}
