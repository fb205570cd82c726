//! Checkpoints: safetensors files with PyTorch's names and orders, a checksum, and a configuration.
//!
//! A file is written beside its final name, synced and renamed, so what is under that name is always
//! whole. The same content gives the same bytes. Reading checks the format version, the checksum over
//! names, types, shapes, values and metadata, finiteness, and that the names and shapes are those of the
//! network; each failure is one [`CheckpointError`] with the file, the cause and the remedy.
//!
//! Convolution weights are `(out, in, kh, kw)` in files, linear weights `(out, in)`, counts of batches
//! I64 scalars; ResNets have torchvision's names, without the classifier `fc`, transformers timm's. So PyTorch reads these
//! files as they are, [`import`] reads those that PyTorch wrote, and [`import_encoder`] finds the encoder in those of other
//! programs.

mod error;
mod file;
mod origin;
mod state;
mod stored;

pub use error::{CheckpointError, Fault};
pub use file::{FORMAT, load_tensors, save_tensors};
pub use origin::import_encoder;
pub use state::{restore, state};
pub use stored::{Stored, Values};

use crate::config::EncoderConfig;
use crate::encoder::Encoder;
use crate::module::Module;
use error::list;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tarrl_tensor::{Device, Key};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Stored>;

/// Notes by name, as strings.
pub type Metadata = BTreeMap<String, String>;

/// The entry of the metadata that holds the [`EncoderConfig`] as JSON.
const CONFIG: &str = "config";

/// Writes the tensors of a network.
///
/// # Errors
/// If the file cannot be written or a value is not finite; what was under `path` before is untouched.
pub fn save(path: &Path, module: &dyn Module, metadata: &Metadata) -> Result<(), CheckpointError> {
    save_tensors(path, &state(module), metadata)
}

/// Replaces the tensors of a network by those of a file, and returns the file's metadata.
///
/// # Errors
/// If the file cannot be read, is damaged, or has not exactly the tensors of this network; the network
/// is then as before.
pub fn load(path: &Path, module: &mut dyn Module) -> Result<Metadata, CheckpointError> {
    let (tensors, metadata) = load_tensors(path)?;
    restore_all(module, tensors).map_err(|fault| fault.at(path))?;
    Ok(metadata)
}

/// Replaces the tensors of a network by those of a safetensors file from elsewhere, which has neither
/// checksum nor version.
///
/// # Errors
/// As [`load`], but for damage that leaves the file well formed.
pub fn import(path: &Path, module: &mut dyn Module) -> Result<(), CheckpointError> {
    restore_all(module, file::load_plain(path)?).map_err(|fault| fault.at(path))
}

/// Writes an encoder with its configuration and `notes`, such as the method and the epoch.
///
/// # Errors
/// As [`save`].
pub fn save_encoder(path: &Path, encoder: &Encoder, notes: &Metadata) -> Result<(), CheckpointError> {
    let config = serde_json::to_string(encoder.config()).expect("a checked configuration is JSON");
    let mut metadata = notes.clone();
    metadata.insert(CONFIG.into(), config);
    save(path, encoder, &metadata)
}

/// Reads an encoder that [`save_encoder`] wrote, as constants.
///
/// # Errors
/// As [`load`], or if the file has no configuration of an encoder.
pub fn load_encoder(path: &Path, device: &Device) -> Result<Encoder, CheckpointError> {
    let (tensors, metadata) = load_tensors(path)?;
    let build = || {
        let mut encoder = Encoder::new(&config(&metadata)?, device, Key::new(0));
        restore_all(&mut encoder, tensors)?;
        Ok(encoder)
    };
    build().map_err(|fault: Fault| fault.at(path))
}

fn config(metadata: &Metadata) -> Result<EncoderConfig, Fault> {
    let json = metadata.get(CONFIG).ok_or_else(|| Fault::NoEncoder("it has no configuration".into()))?;
    let config: EncoderConfig = serde_json::from_str(json)
        .map_err(|error| Fault::NoEncoder(format!("its configuration: {error}")))?;
    config.check().map_err(|error| Fault::NoEncoder(error.to_string()))?;
    Ok(config)
}

fn restore_all(module: &mut dyn Module, mut tensors: Tensors) -> Result<(), Fault> {
    let mut unexpected: BTreeSet<&str> = tensors.keys().map(String::as_str).collect();
    module.visit(&mut |name, _, _| {
        unexpected.remove(name);
    });
    if !unexpected.is_empty() {
        return Err(Fault::Unexpected(list(unexpected)));
    }
    restore(module, &mut tensors)
}
