//! Tensors of a safetensors file: the header is read at once, values when they are asked for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::tensor_file::{Element, FileTensor, TensorFile};
use crate::error::InteropError;

/// The longest header that is read, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// The entry of the metadata that our checkpoints have.
const OURS: &str = "tarrl";

/// The header of a safetensors file.
pub(crate) struct Header {
    metadata: Metadata,
    /// Where the values begin.
    start: u64,
    length: u64,
    path: PathBuf,
}

impl Header {
    /// Reads the header, and checks that the values it declares are in the file.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    pub(crate) fn read(path: &Path) -> Result<Self, InteropError> {
        let unreadable = |source| InteropError::Read { path: path.to_path_buf(), source };
        let damaged = |cause: String| {
            InteropError::refused(path, cause, "copy or download it again, or write it again")
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(unreadable)?;
        let declared = u64::from_le_bytes(prefix);
        if declared > LONGEST_HEADER || declared > length.saturating_sub(8) {
            return Err(damaged(format!("declares a header of {declared} bytes, and has {length} in all")));
        }
        let mut header = Vec::new();
        file.take(declared).read_to_end(&mut header).map_err(unreadable)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| damaged(format!("its header is damaged: {error}")))?;
        let start = 8 + declared;
        let end = start.saturating_add(metadata.data_len() as u64);
        if end != length {
            return Err(damaged(format!("declares {end} bytes and has {length}")));
        }
        Ok(Header { metadata, start, length, path: path.to_path_buf() })
    }

    /// Whether the file is a checkpoint of ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.metadata.metadata().as_ref().is_some_and(|entries| entries.contains_key(OURS))
    }

    /// The tensors. Names that `save_model` of safetensors left out, because they share the memory of another tensor, are
    /// there again: it notes `{name that was left out: name that was kept}` in the metadata.
    pub(crate) fn tensors(&self) -> TensorFile {
        let mut tensors: std::collections::BTreeMap<String, FileTensor> = self
            .metadata
            .tensors()
            .into_keys()
            .filter_map(|name| Some((name.clone(), self.tensor(&name)?)))
            .collect();
        let mut keys = BTreeSet::new();
        for (alias, kept) in self.metadata.metadata().iter().flatten() {
            keys.insert(alias.clone());
            if let (false, Some(tensor)) = (tensors.contains_key(alias), self.tensor(kept)) {
                tensors.insert(alias.clone(), tensor);
            }
        }
        TensorFile { format: "safetensors".into(), tensors, keys, length: self.length }
    }

    fn tensor(&self, name: &str) -> Option<FileTensor> {
        let info = self.metadata.info(name)?;
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let element = match info.dtype {
            Dtype::F64 => Element::F64,
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::I64 => Element::I64,
            Dtype::I32 => Element::I32,
            Dtype::BOOL => Element::Other("BOOL"),
            Dtype::U8 => Element::Other("U8"),
            Dtype::U64 => Element::Other("U64"),
            _ => Element::Other("another type"),
        };
        let (path, at) = (self.path.clone(), self.start + begin);
        let read = move || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(at))?;
            let mut bytes = Vec::new();
            file.take(end.saturating_sub(begin)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Some(FileTensor { element, shape: info.shape.clone(), read: Arc::new(read) })
    }
}
