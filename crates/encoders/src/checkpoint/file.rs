//! Checkpoint file format: safetensors bytes, checksum, atomic writes.

use super::error::{CheckpointError, FORMAT, Fault};
use super::stored_tensor::{Metadata, Stored, Tensors};
use safetensors::SafeTensors;
use safetensors::tensor::View;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

/// The one entry of the safetensors metadata. It holds everything as JSON, because safetensors writes
/// several entries in random order, and the same content shall give the same bytes.
const ENTRY: &str = "tarrl";

/// The longest header that safetensors reads, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// The most bytes of tensors that are read.
const MOST_DATA: u64 = 1 << 34;

/// What every version of the format has.
#[derive(Deserialize)]
struct Version {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    format: u64,
    /// BLAKE3 of [`checksum`].
    checksum: String,
    metadata: Metadata,
}

/// Writes named tensors and metadata: beside the file, then synced, then renamed.
///
/// # Errors
/// If the file cannot be written or a value is not finite; what was under `path` before is untouched.
pub fn save_tensors(path: &Path, tensors: &Tensors, metadata: &Metadata) -> Result<(), CheckpointError> {
    let bytes = encode(tensors, metadata).map_err(|fault| fault.at(path))?;
    tarrl_files::write_atomic(path, &bytes).map_err(|error| Fault::Write(error).at(path))
}

/// Reads what [`save_tensors`] wrote, to the bit.
///
/// # Errors
/// If the file cannot be read, or is not what was written.
pub fn load_tensors(path: &Path) -> Result<(Tensors, Metadata), CheckpointError> {
    decode(&read(path)?).map_err(|fault| fault.at(path))
}

/// The bytes of a safetensors file.
fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let bytes = std::fs::File::open(path).and_then(|mut file| read_declared(&mut file));
    bytes.map_err(|error| Fault::Read(error).at(path))
}

/// What the header declares and a byte more, by which a file that is too long is found; of what has no header its
/// beginning. So a stream that never ends does not fill the memory.
fn read_declared(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.by_ref().take(8).read_to_end(&mut bytes)?;
    let Some(&length) = bytes.first_chunk::<8>() else { return Ok(bytes) };
    stream.by_ref().take(u64::from_le_bytes(length).min(LONGEST_HEADER)).read_to_end(&mut bytes)?;
    if let Ok(header) = serde_json::from_slice::<safetensors::tensor::Metadata>(&bytes[8..]) {
        let declared = header.data_len() as u64;
        if declared > MOST_DATA {
            let cause = format!("it declares {declared} bytes of tensors, and at most {MOST_DATA} are read");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, cause));
        }
        stream.take(declared + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn encode(tensors: &Tensors, metadata: &Metadata) -> Result<Vec<u8>, Fault> {
    check_finite(tensors)?;
    let metadata = metadata.clone();
    let envelope = Envelope { format: FORMAT, checksum: checksum(tensors, &metadata), metadata };
    let json = serde_json::to_string(&envelope).expect("strings and numbers are JSON");
    let entry = HashMap::from([(ENTRY.to_string(), json)]);
    safetensors::serialize(tensors, Some(entry)).map_err(|error| Fault::Write(io::Error::other(error)))
}

fn decode(bytes: &[u8]) -> Result<(Tensors, Metadata), Fault> {
    // Behind the length of the header is its JSON. What begins otherwise may be worth more than a damaged checkpoint.
    if bytes.get(8).is_some_and(|&first| first != b'{') {
        return Err(Fault::NoSafetensors);
    }
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let json = header.metadata().as_ref().and_then(|entries| entries.get(ENTRY)).ok_or(Fault::Foreign)?;
    let version: Version = serde_json::from_str(json).map_err(damaged)?;
    if version.format != FORMAT {
        return Err(Fault::Version(version.format));
    }
    let envelope: Envelope = serde_json::from_str(json).map_err(damaged)?;
    let mut tensors = Tensors::new();
    for (name, view) in SafeTensors::deserialize(bytes).map_err(damaged)?.iter() {
        tensors.insert(name.to_string(), Stored::from_view(name, &view)?);
    }
    check_finite(&tensors)?;
    if checksum(&tensors, &envelope.metadata) != envelope.checksum {
        return Err(Fault::Damaged("its content does not match its checksum".into()));
    }
    Ok((tensors, envelope.metadata))
}

fn damaged(error: impl std::fmt::Display) -> Fault {
    Fault::Damaged(error.to_string())
}

fn check_finite(tensors: &Tensors) -> Result<(), Fault> {
    match tensors.iter().find(|(_, stored)| !stored.is_finite()) {
        Some((name, _)) => Err(Fault::NotFinite(name.clone())),
        None => Ok(()),
    }
}

/// The hash of metadata, names, types, shapes and values, each with its length before it.
fn checksum(tensors: &Tensors, metadata: &Metadata) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(&(metadata.len() as u64).to_le_bytes());
    for text in metadata.iter().flat_map(|(name, value)| [name, value]) {
        part(text.as_bytes());
    }
    for (name, stored) in tensors {
        part(name.as_bytes());
        part(stored.describe().as_bytes());
        part(&stored.data());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Values;
    use proptest::prelude::*;

    fn content() -> (Tensors, Metadata) {
        let tensors = Tensors::from([
            ("conv1.weight".into(), Stored::new(&[2, 1, 2, 1], Values::F32(vec![0.5, -1.25, 3.0, 1e-7]))),
            ("loss".into(), Stored::new(&[], Values::F64(vec![0.1]))),
            ("bn1.num_batches_tracked".into(), Stored::new(&[], Values::I64(vec![-7]))),
            ("key".into(), Stored::new(&[2], Values::U64(vec![u64::MAX, 0]))),
            ("empty".into(), Stored::new(&[0, 3], Values::F32(vec![]))),
        ]);
        (tensors, Metadata::from([("epoch".into(), "3".into()), ("note".into(), "a \"b\" ∂".into())]))
    }

    #[test]
    fn content_comes_back_and_has_one_encoding() {
        let (tensors, metadata) = content();
        let bytes = encode(&tensors, &metadata).unwrap();
        assert_eq!(decode(&bytes).unwrap(), (tensors.clone(), metadata.clone()));
        for _ in 0..20 {
            assert_eq!(encode(&tensors, &metadata).unwrap(), bytes);
        }
    }

    #[test]
    fn no_more_is_read_than_the_header_declares() {
        let (tensors, metadata) = content();
        let bytes = encode(&tensors, &metadata).unwrap();
        assert_eq!(read_declared(&mut &bytes[..]).unwrap(), bytes);
        let endless = read_declared(&mut bytes.chain(io::repeat(7))).unwrap();
        assert_eq!(endless.len(), bytes.len() + 1);
        assert!(matches!(decode(&endless), Err(Fault::Damaged(_))));
        assert_eq!(read_declared(&mut io::repeat(0)).unwrap().len(), 8);
        let declares = |size: u64| {
            let json = format!(r#"{{"w":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}"#);
            [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
        };
        let error = read_declared(&mut declares(MOST_DATA + 1).chain(io::repeat(0))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        // A size whose bits wrap is no valid header, and nothing behind it is read.
        let header = declares(u64::MAX / 2);
        let found = read_declared(&mut (&header[..]).chain(io::repeat(0))).unwrap();
        assert!(found == header && matches!(decode(&found), Err(Fault::Damaged(_))));
        assert_eq!(read_declared(&mut &b"short"[..]).unwrap(), b"short");
    }

    /// Whoever gives another file in place of a checkpoint is not told to delete it.
    #[test]
    fn what_is_no_safetensors_file_is_not_called_damaged() {
        for bytes in [&b"\x08\x08\x12\x07pytorch"[..], b"PK\x03\x04\x14\0\0\0archive", b"<!DOCTYPE html>"] {
            let fault = decode(bytes).unwrap_err();
            assert!(matches!(fault, Fault::NoSafetensors), "{fault}");
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_found() {
        let (tensors, metadata) = content();
        let bytes = encode(&tensors, &metadata).unwrap();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "the first {len} of {} bytes were accepted", bytes.len());
        }
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit} of {} flipped was accepted", 8 * bytes.len());
        }
    }

    proptest! {
        /// Larger damage may keep the meaning (a space that becomes a newline) but never change it.
        #[test]
        fn damage_is_found_or_harmless(
            at in prop::collection::vec((0.0f64..1.0, any::<u8>()), 1..8),
            cut in 0.0f64..1.0,
            insert in prop::collection::vec(any::<u8>(), 0..16),
        ) {
            let (tensors, metadata) = content();
            let mut bytes = encode(&tensors, &metadata).unwrap();
            for (place, byte) in at {
                let i = (place * bytes.len() as f64) as usize;
                bytes[i] = byte;
            }
            let i = (cut * bytes.len() as f64) as usize;
            bytes.splice(i..i, insert);
            if let Ok(read) = decode(&bytes) {
                prop_assert_eq!(read, (tensors, metadata));
            }
        }

        #[test]
        fn noise_is_no_checkpoint(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn values_that_are_not_finite_are_neither_written_nor_read() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let tensors = Tensors::from([("w".into(), Stored::new(&[2], Values::F32(vec![1.0, bad])))]);
            assert!(matches!(encode(&tensors, &Metadata::new()), Err(Fault::NotFinite(name)) if name == "w"));
            let sealed = Envelope {
                format: FORMAT,
                checksum: checksum(&tensors, &Metadata::new()),
                metadata: Metadata::new(),
            };
            let bytes = with_entry(&tensors, &serde_json::to_string(&sealed).unwrap());
            assert!(matches!(decode(&bytes), Err(Fault::NotFinite(name)) if name == "w"));
        }
    }

    #[test]
    fn other_formats_are_told_from_damage() {
        let (tensors, _) = content();
        let plain = safetensors::serialize(&tensors, None).unwrap();
        assert!(matches!(decode(&plain), Err(Fault::Foreign)));
        let later = with_entry(&tensors, r#"{"format": 2, "parts": []}"#);
        assert!(matches!(decode(&later), Err(Fault::Version(2))));
        let other_type =
            safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![1], &[0, 0]).unwrap();
        let sealed = serde_json::to_string(&Envelope {
            format: FORMAT,
            checksum: String::new(),
            metadata: Metadata::new(),
        });
        let entry = HashMap::from([(ENTRY.to_string(), sealed.unwrap())]);
        let bytes = safetensors::serialize([("w", other_type)], Some(entry)).unwrap();
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.contains("`w`") && error.contains("BF16"), "{error}");
    }

    fn with_entry(tensors: &Tensors, json: &str) -> Vec<u8> {
        safetensors::serialize(tensors, Some(HashMap::from([(ENTRY.to_string(), json.to_string())]))).unwrap()
    }
}
