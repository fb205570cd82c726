//! Encoders of other programs, to be attacked, probed and certified like our own.
//!
//! [`Model::open`] reads a model file by its content and gives a function from images `(n, h, w, c)` with pixels in `[0, 1]`
//! to representations `(n, d)`:
//!
//! ```text
//! f: [0, 1]^(n×h×w×c) → R^(n×d)
//! ```

mod error;
mod model;

pub use error::InteropError;
pub use model::Model;
