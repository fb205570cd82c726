//! ONNX files, and the files beside them that hold large tensors.

use super::error::OnnxError;
use super::graph::Graph;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};
use tarrl_tensor::Device;

/// Bytes of a model at most: what one message of protocol buffers may have.
const MOST_BYTES: u64 = 1 << 31;

/// Bytes behind the last tensor of a file beside the model that are taken for padding.
const PADDING: u64 = 1 << 16;

/// Reads the encoder in an ONNX file. Tensors may lie in files beside it; no path leads out of its folder. A file that holds more
/// than the graph uses is noted: nothing says of which export it is.
///
/// # Errors
/// The system's error, if the file cannot be read; the reader's, if it holds no model that is supported.
pub fn read(path: &Path, device: &Device) -> io::Result<Result<Graph, OnnxError>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MOST_BYTES {
        return Ok(Err(OnnxError::form(format!(
            "it has more than {MOST_BYTES} bytes; store large tensors beside it"
        ))));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let ends: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let external = |location: &str, offset: u64, len: usize| {
        let found = tensor_bytes(&folder, location, offset, len)?;
        let mut ends = ends.borrow_mut();
        let end = ends.entry(location.to_owned()).or_default();
        *end = (*end).max(offset + len as u64);
        Ok(found)
    };
    let read = Graph::from_bytes(&bytes, &external, device);
    let ends = ends.into_inner();
    Ok(read.map(|graph| {
        graph
            .with_notes(ends.iter().filter_map(|(name, &end)| surplus(&folder, name, end)))
            .with_files(ends.keys().map(|name| folder.join(name)).collect())
    }))
}

/// What is to be said of a file beside the model, if the graph does not use it to its end.
fn surplus(folder: &Path, location: &str, end: u64) -> Option<String> {
    let len = folder.join(location).metadata().ok()?.len();
    (len > end.saturating_add(PADDING)).then(|| {
        format!(
            "warning: the graph uses {end} of the {len} bytes of {location}: unless other graphs share that file, it is of \
             another export"
        )
    })
}

/// A piece of a file beside the model.
fn tensor_bytes(folder: &Path, location: &str, offset: u64, len: usize) -> Result<Vec<u8>, String> {
    let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    let relative = Path::new(location);
    if location.is_empty() || location.contains('\\') || !inside(relative) {
        return Err(format!("it lies in {location:?}, which is no path below the folder of the model"));
    }
    let path = folder.join(relative);
    let fault =
        |error: io::Error| format!("cannot read {}: {error}; keep it beside the model", path.display());
    let mut file = File::open(&path).map_err(fault)?;
    let metadata = file.metadata().map_err(fault)?;
    let end = offset.checked_add(len as u64);
    if !metadata.is_file() || end.is_none_or(|end| end > metadata.len()) {
        return Err(format!(
            "{} has {} bytes, fewer than the {len} from {offset} on that it should hold; copy it whole",
            path.display(),
            metadata.len()
        ));
    }
    file.seek(SeekFrom::Start(offset)).map_err(fault)?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).map_err(fault)?;
    Ok(bytes)
}
