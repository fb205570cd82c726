//! Image augmentation on the device: sampled transforms in, pixels out. The random parameters are sampled on the host, so
//! that a view does not depend on where it is computed.

use crate::array::Buffer;

/// A backend that applies sampled augmentations to batches of bytes.
pub trait AugmentBackend {
    /// The augmented images, `(n, h, w, c)` in F32, with the operations and the order of sums of the host.
    ///
    /// # Panics
    /// If lengths do not fit the shape, or a window or a blur does not suit it.
    fn apply(&self, batch: &AugmentBatch<'_>) -> Buffer;
}

/// A batch of images as bytes and the transform of each: crop, colors, grayscale, blur, solarize, in this order.
#[derive(Clone, Copy, Debug)]
pub struct AugmentBatch<'a> {
    /// Images, height, width and channels (1 or 3).
    pub shape: [usize; 4],
    /// `(n, h, w, c)`, row-major.
    pub images: &'a [u8],
    /// One for each image.
    pub transforms: &'a [DeviceTransform],
    /// Width of all blur kernels, odd; 0 if no image is blurred.
    pub kernel: usize,
    /// `(n, kernel)`: the weights of each image's blur; of images without one they are not read.
    pub weights: &'a [f32],
}

/// The sampled transform of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeviceTransform {
    /// Upper edge, left edge, height and width of the window: inside the image, from where it is enlarged bilinearly, or
    /// of its size, reaching into black.
    pub window: [i32; 4],
    /// Whether it is flipped horizontally.
    pub flip: bool,
    /// Changes of color in their order.
    pub colors: [ColorTransform; 4],
    /// Whether it is converted to grayscale.
    pub gray: bool,
    /// Whether it is blurred.
    pub blur: bool,
    /// Whether `x ≥ ½` becomes `1 − x`.
    pub solarize: bool,
}

/// One change of color; a factor of 1, or a turn of 0, leaves everything as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ColorTransform {
    /// Nothing.
    #[default]
    Keep,
    /// f·x
    Brightness(f32),
    /// f·x + (1 − f)·(mean gray of the image)
    Contrast(f32),
    /// f·x + (1 − f)·(gray of the pixel)
    Saturation(f32),
    /// A turn of the color circle, as a share of it.
    Hue(f32),
}
