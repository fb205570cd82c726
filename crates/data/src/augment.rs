//! Augmentation of images: a [`Recipe`] is sampled to a [`SampledTransform`], a plain value, which an [`Augmenter`] applies.
//!
//! Semantics are those of the usual tensor transforms in [0, 1]: every color operation clamps, gray
//! is .2989 R + .587 G + .114 B, resampling is bilinear or bicubic with half-pixel centers inside the
//! window, blur is a normalized Gaussian with mirrored borders. The order is crop, flip, jitter, grayscale,
//! blur, solarize, high frequencies.

mod augmenter;
mod blur;
mod color;
mod cubic;
mod device;
mod high_pass;
mod recipe;
mod resample;
mod sampled;

pub use augmenter::Augmenter;
pub use device::DeviceTransforms;
pub use recipe::{Blur, Crop, Interpolation, Jitter, Recipe, View};
pub use sampled::{ColorOp, Gaussian, SampledJitter, SampledTransform, Window};
