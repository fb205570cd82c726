//! Checkpoints: safetensors files with PyTorch's names and orders, a checksum, and a configuration.
//!
//! A file is written beside its final name, synced and renamed, so what is under that name is always
//! whole. The same content gives the same bytes. Reading checks the format version, the checksum over
//! names, types, shapes, values and metadata, finiteness, and that the names and shapes are those of the
//! network; each failure is one [`CheckpointError`] with the file, the cause and the remedy.
//!
//! Convolution weights are `(out, in, kh, kw)` in files, linear weights `(out, in)`, counts of batches
//! I64 scalars; ResNets have torchvision's names, without the classifier `fc`, transformers timm's. So PyTorch reads these
//! files as they are. `tarrl-interop` finds the encoder in files of other programs.

mod error;
mod file;
mod module_file;
mod state_dict;
mod stored_tensor;

pub use error::{CheckpointError, Fault};
pub use file::{load_tensors, save_tensors};
pub use module_file::{load, load_encoder, save, save_encoder};
pub use state_dict::{load_state_dict, state_dict};
pub use stored_tensor::{Metadata, Stored, Tensors, Values};
