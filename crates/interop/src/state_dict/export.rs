//! Safetensors that `load_state_dict` of PyTorch takes: encoder and linear head under torchvision's names.

use std::collections::BTreeMap;
use std::path::Path;

use tarrl_encoders::checkpoint::{Stored, Values, state_dict};
use tarrl_encoders::{Encoder, EncoderConfig};

use crate::error::InteropError;

/// Writes the state dict of an encoder, and of a linear head `(k, d)` with its bias `(k)` as `fc.weight` and `fc.bias`.
///
/// PyTorch reads it by `model.load_state_dict(safetensors.torch.load_file(path))`: names, orders and types are those of
/// torchvision's and timm's classes, counts of batches are scalars. The normalization of the pixels, which these classes
/// lack, is in the metadata, under `mean` and `std`, as numbers separated by blanks; `architecture` names the network.
///
/// # Errors
/// If the head does not fit the encoder, or the file cannot be written.
pub fn save_state_dict(
    path: &Path,
    encoder: &Encoder,
    head: Option<(&[f32], &[f32])>,
) -> Result<(), InteropError> {
    let mut tensors = state_dict(encoder);
    if let Some((weight, bias)) = head {
        let (k, d) = (bias.len(), encoder.dim());
        if weight.len() != k * d {
            return Err(InteropError::refused(
                path,
                format!(
                    "a head of {k} classes on {d} dimensions has {} weights, and {} are given",
                    k * d,
                    weight.len()
                ),
                "take the head that was trained on this encoder",
            ));
        }
        tensors.insert("fc.weight".into(), Stored::new(&[k, d], Values::F32(weight.to_vec())));
        tensors.insert("fc.bias".into(), Stored::new(&[k], Values::F32(bias.to_vec())));
    }
    let bytes = encode(&tensors, encoder.config());
    tarrl_files::write_atomic(path, &bytes)
        .map_err(|source| InteropError::Write { path: path.to_path_buf(), source })
}

/// A safetensors file, whose bytes depend on nothing but the content: metadata in the order of names, values of eight
/// bytes first so that all are aligned.
fn encode(tensors: &BTreeMap<String, Stored>, config: &EncoderConfig) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let numbers = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
    let metadata = BTreeMap::from([
        ("architecture", config.arch.name().to_owned()),
        ("format", "pt".to_owned()),
        ("mean", numbers(&config.mean)),
        ("std", numbers(&config.std)),
    ]);
    header.insert("__metadata__".to_owned(), serde_json::json!(metadata));
    let (counts, floats): (Vec<_>, Vec<_>) =
        tensors.iter().partition(|(_, stored)| matches!(stored.values(), Values::I64(_)));
    let mut data = Vec::new();
    for (name, stored) in counts.into_iter().chain(floats) {
        let begin = data.len();
        let dtype = match stored.values() {
            Values::I64(values) => {
                values.iter().for_each(|v| data.extend_from_slice(&v.to_le_bytes()));
                "I64"
            }
            Values::F32(values) => {
                values.iter().for_each(|v| data.extend_from_slice(&v.to_le_bytes()));
                "F32"
            }
            Values::F64(values) => {
                values.iter().for_each(|&v| data.extend_from_slice(&(v as f32).to_le_bytes()));
                "F32"
            }
            Values::U64(_) => unreachable!("no encoder has such a tensor"),
        };
        let entry = serde_json::json!({
            "dtype": dtype, "shape": stored.shape(), "data_offsets": [begin, data.len()],
        });
        header.insert(name.clone(), entry);
    }
    let mut header = serde_json::Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Key, cpu};

    #[test]
    fn the_file_is_read_by_the_safetensors_crate_and_has_one_encoding() {
        let config =
            EncoderConfig { width: 0.05, mean: vec![0.25], std: vec![0.5], ..EncoderConfig::default() };
        let encoder = Encoder::new(&config, &cpu(), Key::new(1));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let weight: Vec<f32> = (0..2 * encoder.dim()).map(|i| i as f32).collect();
        save_state_dict(&path, &encoder, Some((&weight, &[0.5, -0.5]))).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        save_state_dict(&path, &encoder, Some((&weight, &[0.5, -0.5]))).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["mean"], "0.25");
        assert_eq!(file.tensor("fc.weight").unwrap().shape(), [2, encoder.dim()]);
        let state = state_dict(&encoder);
        assert_eq!(file.len(), state.len() + 2);
        let count = file.tensor("bn1.num_batches_tracked").unwrap();
        assert_eq!((count.dtype(), count.shape()), (safetensors::Dtype::I64, &[][..]));
        let kernel = file.tensor("conv2.weight").unwrap();
        assert_eq!(kernel.shape(), state["conv2.weight"].shape());
        let Values::F32(values) = state["conv2.weight"].values() else { panic!("floats") };
        let first: Vec<f32> =
            kernel.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
        assert_eq!(&first, values);
        let text = save_state_dict(&path, &encoder, Some((&[1.0], &[0.0, 0.0]))).unwrap_err().to_string();
        assert!(text.contains("1 are given"), "{text}");
    }
}
