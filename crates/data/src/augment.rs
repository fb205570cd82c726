//! Augmentation of one image: parameters are drawn first, as a plain value, then applied in one go.
//!
//! Semantics are those of the usual tensor transforms in [0, 1]: every color operation clamps, gray
//! is .2989 R + .587 G + .114 B, resampling is bilinear or bicubic with half-pixel centers inside the
//! window, blur is a normalized Gaussian with mirrored borders. The order is crop, flip, jitter, grayscale,
//! blur, solarize, high frequencies.

mod blur;
mod brush;
mod color;
mod cubic;
mod draw;
mod high_pass;
mod paint;
mod recipe;
mod resample;

pub use brush::Brushes;
pub use draw::{ColorDraw, ColorOp, Draw, Gaussian, Window};
pub use paint::Painter;
pub use recipe::{Blur, Crop, Interpolation, Jitter, Recipe, View};
