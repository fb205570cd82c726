//! A writer of files as `torch.save` makes them, for tests.
#![allow(dead_code)] // Each test file uses a part of it.

pub(crate) mod encoders;

/// A value in a pickle.
#[derive(Clone)]
pub(crate) enum Value {
    Dict(Vec<(String, Value)>),
    Tensor(Tensor),
    Int(i32),
    Text(String),
}

/// A tensor: the name of its storage's type, shape, strides, and bytes of the storage.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) storage: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) width: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    /// A contiguous tensor of bytes.
    pub(crate) fn new(storage: &'static str, shape: &[usize], width: usize, bytes: Vec<u8>) -> Self {
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        Tensor { storage, shape: shape.to_vec(), strides, width, bytes }
    }

    pub(crate) fn f32(shape: &[usize], values: &[f32]) -> Self {
        Tensor::new("FloatStorage", shape, 4, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub(crate) fn i64(shape: &[usize], values: &[i64]) -> Self {
        Tensor::new("LongStorage", shape, 8, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

/// A nested dictionary from dotted containers: `state_dict` around `entries`.
pub(crate) fn nested(container: &str, entries: Vec<(String, Value)>, others: Vec<(String, Value)>) -> Value {
    if container.is_empty() {
        return Value::Dict(entries);
    }
    let mut outer = vec![(container.to_owned(), Value::Dict(entries))];
    outer.extend(others);
    Value::Dict(outer)
}

/// The bytes of `torch.save(value)`: a zip file whose entries are stored.
pub(crate) fn torch_zip(value: &Value) -> Vec<u8> {
    let mut storages = Vec::new();
    let mut pickle = vec![0x80, 2];
    write(value, &mut pickle, &mut storages);
    pickle.push(b'.');
    let mut entries =
        vec![("model/data.pkl".to_owned(), pickle), ("model/byteorder".to_owned(), b"little".to_vec())];
    entries.extend(storages.into_iter().enumerate().map(|(i, bytes)| (format!("model/data/{i}"), bytes)));
    entries.push(("model/version".to_owned(), b"3\n".to_vec()));
    zip(&entries)
}

fn write(value: &Value, out: &mut Vec<u8>, storages: &mut Vec<Vec<u8>>) {
    match value {
        Value::Int(value) => int(*value, out),
        Value::Text(value) => text(value, out),
        Value::Dict(entries) => {
            out.extend_from_slice(b"}(");
            for (key, value) in entries {
                text(key, out);
                write(value, out, storages);
            }
            out.push(b'u');
        }
        Value::Tensor(tensor) => {
            out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text("storage", out);
            out.extend_from_slice(format!("ctorch\n{}\n", tensor.storage).as_bytes());
            text(&storages.len().to_string(), out);
            text("cpu", out);
            int((tensor.bytes.len() / tensor.width) as i32, out);
            out.extend_from_slice(b"tQ");
            int(0, out);
            for extents in [&tensor.shape, &tensor.strides] {
                out.push(b'(');
                extents.iter().for_each(|&extent| int(extent as i32, out));
                out.push(b't');
            }
            out.extend_from_slice(b"\x89ccollections\nOrderedDict\n)RtR");
            storages.push(tensor.bytes.clone());
        }
    }
}

fn int(value: i32, out: &mut Vec<u8>) {
    out.push(b'J');
    out.extend_from_slice(&value.to_le_bytes());
}

fn text(value: &str, out: &mut Vec<u8>) {
    out.push(b'X');
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// A zip file of stored entries.
pub(crate) fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for (name, bytes) in entries {
        let at = file.len() as u32;
        let mut header = Vec::new();
        for field in [20u16, 0, 0, 0, 0] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        for field in [crc32(bytes), bytes.len() as u32, bytes.len() as u32] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        header.extend_from_slice(&(name.len() as u16).to_le_bytes());
        header.extend_from_slice(&0u16.to_le_bytes());
        file.extend_from_slice(b"PK\x03\x04");
        file.extend_from_slice(&header);
        file.extend_from_slice(name.as_bytes());
        file.extend_from_slice(bytes);
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        directory.extend_from_slice(&header);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&at.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let (start, count) = (file.len() as u32, entries.len() as u16);
    let length = directory.len() as u32;
    file.extend_from_slice(&directory);
    file.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    file.extend_from_slice(&count.to_le_bytes());
    file.extend_from_slice(&count.to_le_bytes());
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&start.to_le_bytes());
    file.extend_from_slice(&0u16.to_le_bytes());
    file
}

/// CRC-32 with the polynomial of zip, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            let low = crc & 1;
            crc >> 1 ^ if low == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// Tensors of a state dict under other names, as entries of a pickle.
pub(crate) fn entries(
    tensors: &tarrl_encoders::checkpoint::Tensors,
    rename: impl Fn(&str) -> String,
) -> Vec<(String, Value)> {
    use tarrl_encoders::checkpoint::Values;
    let tensor = |stored: &tarrl_encoders::checkpoint::Stored| match stored.values() {
        Values::F32(values) => Tensor::f32(stored.shape(), values),
        Values::I64(values) => Tensor::i64(stored.shape(), values),
        other => unreachable!("{other:?}"),
    };
    tensors.iter().map(|(name, stored)| (rename(name), Value::Tensor(tensor(stored)))).collect()
}
