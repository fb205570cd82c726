#![doc = include_str!("../README.md")]
//!
//! [`Model::open`] reads a model file by its content and gives a function from images `(n, h, w, c)` with pixels in `[0, 1]`
//! to representations `(n, d)`:
//!
//! ```text
//! f: [0, 1]^(n×h×w×c) → R^(n×d)
//! ```
//!
//! What a file does not say, such as the padding of a stem or the constants that its images were normalized with, is asked
//! from [`ReadOptions`].
#![forbid(unsafe_code)]

mod error;
mod format;
mod model;
pub mod onnx;
mod options;
mod state_dict;

pub use error::InteropError;
pub use model::{Model, import_encoder, list_state_dict};
pub use options::{Normalization, NormalizationError, ReadOptions};
pub use state_dict::{Imported, save_state_dict};
