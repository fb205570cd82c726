//! Common corruptions of images: noise, blur, contrast, brightness, JPEG and pixelation, each at five severities.
//!
//! Kinds and severities are those of CIFAR-10-C (Hendrycks and Dietterich 2019); docs/evaluation.md has the formulas and
//! what differs.

mod image;
mod jpeg;

use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Tensor};

use self::image::Image;

/// A kind of corruption.
///
/// ```
/// use tarrl_eval::Corruption;
/// use tarrl_tensor::{Key, Tensor, cpu};
///
/// let x = Tensor::new(&cpu(), [1, 1, 2, 1], &[0.0f32, 1.0]); // (n, h, w, c)
/// let found = Corruption::Contrast.apply(&x, 5, Key::new(0)).to_vec::<f32>();
/// assert!((found[0] - 0.425).abs() < 1e-6); // 0.5 + 0.15 (0 − 0.5)
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Corruption {
    /// Independent normal noise on every pixel.
    GaussianNoise,
    /// The image smoothed by a Gaussian.
    GaussianBlur,
    /// Every pixel brought nearer to the mean of its channel.
    Contrast,
    /// A constant added to the largest channel, the ratios of the channels kept.
    Brightness,
    /// Quantized cosine coefficients of blocks of eight by eight pixels.
    Jpeg,
    /// Fewer, larger pixels.
    Pixelation,
}

/// The number of severities of each corruption, which are numbered from 1.
pub const SEVERITIES: usize = 5;

impl Corruption {
    /// Every kind, in the order of tables.
    pub const ALL: [Corruption; 6] = [
        Corruption::GaussianNoise,
        Corruption::GaussianBlur,
        Corruption::Contrast,
        Corruption::Brightness,
        Corruption::Jpeg,
        Corruption::Pixelation,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Corruption::GaussianNoise => "noise",
            Corruption::GaussianBlur => "blur",
            Corruption::Contrast => "contrast",
            Corruption::Brightness => "brightness",
            Corruption::Jpeg => "JPEG",
            Corruption::Pixelation => "pixelation",
        }
    }

    /// Its parameter at a severity: a standard deviation in pixels' values, one in pixels' widths, a factor, a summand, a
    /// quality, a factor of the side.
    fn parameter(self, severity: usize) -> f64 {
        let parameters = match self {
            Corruption::GaussianNoise => [0.04, 0.06, 0.08, 0.09, 0.10],
            Corruption::GaussianBlur => [0.4, 0.6, 0.7, 0.8, 1.0],
            Corruption::Contrast => [0.75, 0.5, 0.4, 0.3, 0.15],
            Corruption::Brightness => [0.05, 0.1, 0.15, 0.2, 0.3],
            Corruption::Jpeg => [80.0, 65.0, 58.0, 50.0, 40.0],
            Corruption::Pixelation => [0.95, 0.9, 0.85, 0.75, 0.65],
        };
        parameters[severity - 1]
    }

    /// The corrupted images, in [0, 1] as `images (n, h, w, c)` are. Image `i` draws its noise from `key.fold(i)`, so that it
    /// depends on no other image.
    ///
    /// # Panics
    /// If the severity is not one of `1..=5`, or the images have not one or three channels.
    #[track_caller]
    pub fn apply(self, images: &Tensor, severity: usize, key: Key) -> Tensor {
        assert!(
            (1..=SEVERITIES).contains(&severity),
            "Corruption::apply: severity {severity} of {SEVERITIES}"
        );
        let &[n, h, w, c] = &images.shape()[..] else {
            panic!("Corruption::apply: images {:?} are not (n, h, w, c)", images.shape())
        };
        assert!(c == 1 || c == 3, "Corruption::apply: {c} channels are neither gray nor red, green and blue");
        let parameter = self.parameter(severity);
        let mut pixels = images.array().to_f64();
        for (i, values) in pixels.chunks_mut(h * w * c).enumerate() {
            let mut image = Image { values, h, w, c };
            match self {
                Corruption::GaussianNoise => image.noise(parameter, key.fold(i)),
                Corruption::GaussianBlur => image.blur(parameter),
                Corruption::Contrast => image.contrast(parameter),
                Corruption::Brightness => image.brightness(parameter),
                Corruption::Jpeg => jpeg::compress(&mut image, parameter),
                Corruption::Pixelation => image.pixelate(parameter),
            }
            image.values.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        }
        Tensor::new(images.device(), [n, h, w, c], &pixels).cast(images.dtype())
    }
}

#[cfg(test)]
mod tests;
