//! Checkpoints of modules: save and load networks, and encoders with their configuration.

use super::error::{CheckpointError, Fault, list};
use super::file::{load_tensors, save_tensors};
use super::state_dict::{load_state_dict, state_dict};
use super::stored_tensor::{Metadata, Stored, Tensors};
use crate::config::EncoderConfig;
use crate::encoder::Encoder;
use crate::module::Module;
use std::collections::BTreeSet;
use std::path::Path;
use tarrl_tensor::Device;

/// The entry of the metadata that holds the [`EncoderConfig`] as JSON.
const CONFIG: &str = "config";

/// Writes the tensors of a network.
///
/// # Errors
/// If the file cannot be written or a value is not finite; what was under `path` before is untouched.
pub fn save(path: &Path, module: &dyn Module, metadata: &Metadata) -> Result<(), CheckpointError> {
    save_tensors(path, &state_dict(module), metadata)
}

/// Replaces the tensors of a network by those of a file, and returns the file's metadata.
///
/// # Errors
/// If the file cannot be read, is damaged, or has not exactly the tensors of this network; the network
/// is then as before.
pub fn load(path: &Path, module: &mut dyn Module) -> Result<Metadata, CheckpointError> {
    let (tensors, metadata) = load_tensors(path)?;
    load_exactly(module, tensors).map_err(|fault| fault.at(path))?;
    Ok(metadata)
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
        let config = config(&metadata)?;
        // A few bytes of configuration can declare more values than there is memory.
        let (declared, stored) = (config.value_count(), tensors.values().map(Stored::count).sum());
        if declared > stored {
            return Err(Fault::NoEncoder(format!(
                "its configuration declares {declared} values, the file holds {stored}"
            )));
        }
        let mut encoder = Encoder::zeros(&config, device);
        load_exactly(&mut encoder, tensors)?;
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

fn load_exactly(module: &mut dyn Module, mut tensors: Tensors) -> Result<(), Fault> {
    refuse_unexpected(module, tensors.keys())?;
    load_state_dict(module, &mut tensors)
}

fn refuse_unexpected<'a>(module: &dyn Module, names: impl Iterator<Item = &'a String>) -> Result<(), Fault> {
    let mut unexpected: BTreeSet<&str> = names.map(String::as_str).collect();
    module.visit(&mut |name, _, _| {
        unexpected.remove(name);
    });
    if unexpected.is_empty() { Ok(()) } else { Err(Fault::Unexpected(list(unexpected))) }
}
