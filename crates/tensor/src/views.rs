//! What random views of images are for a backend that paints them itself. Chance has spoken before: a backend only
//! computes, so that a view does not depend on where it is painted.

/// A batch of images as bytes and what becomes of each: first the window, then colors, gray, blur, inversion.
#[derive(Clone, Copy, Debug)]
pub struct Painting<'a> {
    /// Images, height, width and channels (1 or 3).
    pub shape: [usize; 4],
    /// `(n, h, w, c)`, row-major.
    pub images: &'a [u8],
    /// One for each image.
    pub brushes: &'a [Brush],
    /// Width of all blur kernels, odd; 0 if no image is blurred.
    pub kernel: usize,
    /// `(n, kernel)`: the weights of each image's blur; of images without one they are not read.
    pub weights: &'a [f32],
}

/// What becomes of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Brush {
    /// Upper edge, left edge, height and width of the window: inside the image, from where it is enlarged bilinearly, or
    /// of its size, reaching into black.
    pub window: [i32; 4],
    /// Whether it is mirrored.
    pub flip: bool,
    /// Changes of color in their order.
    pub colors: [Color; 4],
    /// Whether all channels become gray.
    pub gray: bool,
    /// Whether it is blurred.
    pub blur: bool,
    /// Whether `x ≥ ½` becomes `1 − x`.
    pub solarize: bool,
}

/// One change of color; a factor of 1, or a turn of 0, leaves everything as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Color {
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
