//! Damaged and hostile files: an error with the path, bounded memory, no panic.

mod common;

use common::{Tensor as Raw, Value, entries, nested, torch_zip, zip};
use tarrl_encoders::checkpoint::state_dict;
use tarrl_encoders::{Encoder, EncoderConfig};
use tarrl_interop::{Model, ReadOptions};
use tarrl_tensor::{Key, cpu};

/// What reading these bytes says; the error names the file.
fn read(bytes: &[u8]) -> Result<Model, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.pt");
    std::fs::write(&path, bytes).unwrap();
    Model::open(&path, &ReadOptions::default(), &cpu()).map_err(|error| {
        let text = error.to_string();
        assert!(text.contains("hostile.pt"), "{text}");
        text
    })
}

fn small() -> Vec<u8> {
    let config = EncoderConfig { width: 1.0 / 32.0, ..EncoderConfig::default() };
    let tensors = state_dict(&Encoder::new(&config, &cpu(), Key::new(1)));
    torch_zip(&nested("state_dict", entries(&tensors, |name| name.to_owned()), vec![]))
}

#[test]
fn truncated_files_are_refused() {
    let whole = small();
    assert!(read(&whole).is_ok());
    for length in (0..whole.len()).step_by(149) {
        assert!(read(&whole[..length]).is_err(), "{length} of {} bytes were read", whole.len());
    }
}

/// A byte may be one that nothing depends on, such as a date: it is refused or harmless, and never a panic.
#[test]
fn changed_bytes_are_refused_or_read() {
    let whole = small();
    let mut refused = 0;
    for place in (0..whole.len()).step_by(53) {
        let mut changed = whole.clone();
        changed[place] ^= 0x5a;
        refused += usize::from(read(&changed).is_err());
    }
    assert!(refused > 0);
}

/// A tensor of 4 TiB or of 8 GiB over one value: `expand` of PyTorch makes such views.
#[test]
fn tensors_larger_than_the_file_are_refused() {
    let mut value = Raw::f32(&[1], &[1.0]);
    value.shape = vec![1 << 16, 1 << 15, 1, 1];
    value.strides = vec![0; 4];
    let stem = |value: Raw| {
        torch_zip(&Value::Dict(vec![
            ("conv1.weight".into(), Value::Tensor(value.clone())),
            ("layer1.0.conv1.weight".into(), Value::Tensor(value)),
        ]))
    };
    assert!(read(&stem(value.clone())).is_err());
    value.shape = vec![1 << 20, 1 << 20, 1, 1];
    assert!(read(&stem(value)).is_err());
    // The whole network as views of one value: 33 MB of a file of some kilobytes.
    let config = EncoderConfig { width: 8.0, in_channels: 3, ..EncoderConfig::default() };
    let mut views = Vec::new();
    for (name, stored) in state_dict(&Encoder::zeros(&config, &cpu())) {
        let mut view = Raw::f32(&[1], &[1.0]);
        view.shape = stored.shape().to_vec();
        view.strides = vec![0; view.shape.len()];
        if !name.ends_with("num_batches_tracked") {
            views.push((name, Value::Tensor(view)));
        }
    }
    let text = read(&torch_zip(&Value::Dict(views))).unwrap_err();
    assert!(text.contains("bytes of tensors") && text.contains("strides"), "{text}");
}

#[test]
fn deep_and_foreign_pickles_are_refused() {
    let archive = |pickle: Vec<u8>| zip(&[("model/data.pkl".into(), pickle)]);
    // Lists in lists, 100,000 deep.
    let deep = [vec![0x80, 2], vec![b']'; 100_000], vec![b'a'; 99_999], vec![b'.']].concat();
    assert!(read(&archive(deep.clone())).is_err());
    assert!(read(&deep).is_err());
    // A call of the shell: nothing is executed, and there are no tensors.
    let shell = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.".to_vec();
    assert!(read(&archive(shell)).is_err());
    let text = read(&zip(&[("array.npy".into(), vec![0; 8])])).unwrap_err();
    assert!(text.contains("torch.save"), "{text}");
}

#[test]
fn damaged_headers_of_safetensors_are_refused() {
    let file = |json: &str, data: usize| {
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat()
    };
    for (json, data) in [
        (r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
        (r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12),
        (r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
        (r#"{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#, 8),
        (r#"{"w":{"dtype":"F9","shape":[2],"data_offsets":[0,8]}}"#, 8),
        ("{}", 0),
    ] {
        assert!(read(&file(json, data)).is_err(), "{json}");
    }
}

/// A map that never ends does not fill the memory.
#[test]
#[cfg(target_os = "linux")]
fn a_name_map_without_an_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("endless.toml");
    std::os::unix::fs::symlink("/dev/zero", &map).unwrap();
    let model = folder.path().join("model.pt");
    std::fs::write(&model, small()).unwrap();
    let options = tarrl_interop::ReadOptions { map: map.to_str().map(str::to_owned), ..Default::default() };
    let error =
        tarrl_interop::import_encoder(&model, &options, &tarrl_tensor::cpu()).unwrap_err().to_string();
    assert!(error.contains("too large for a name map"), "{error}");
}
