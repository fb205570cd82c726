//! Common corruptions of images: noise, blur, contrast, brightness, JPEG and pixelation, each at five severities.
//!
//! Kinds and severities are those of CIFAR-10-C (Hendrycks and Dietterich 2019); docs/evaluation.md has the formulas and
//! what differs.

mod jpeg;

use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Tensor, math};

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

/// One image, row by row with its channels last.
struct Image<'a> {
    values: &'a mut [f64],
    h: usize,
    w: usize,
    c: usize,
}

impl Image<'_> {
    fn noise(&mut self, deviation: f64, key: Key) {
        let mut stream = key.stream();
        self.values.iter_mut().for_each(|v| *v += deviation * stream.normal());
    }

    fn contrast(&mut self, factor: f64) {
        let area = (self.h * self.w) as f64;
        for channel in 0..self.c {
            let mean = self.values.iter().skip(channel).step_by(self.c).sum::<f64>() / area;
            let values = self.values.iter_mut().skip(channel).step_by(self.c);
            values.for_each(|v| *v = mean + factor * (*v - mean));
        }
    }

    fn brightness(&mut self, summand: f64) {
        for pixel in self.values.chunks_mut(self.c) {
            let most = pixel.iter().copied().fold(0.0, f64::max);
            let brighter = (most + summand).min(1.0);
            pixel.iter_mut().for_each(|v| *v = if most > 0.0 { *v * brighter / most } else { brighter });
        }
    }

    /// Along rows and then along columns, the nearest pixel repeated beyond the border.
    fn blur(&mut self, deviation: f64) {
        let weights = gaussian(deviation);
        let reach = weights.len() / 2;
        for [len, stride, others] in [[self.w, self.c, self.h], [self.h, self.w * self.c, self.w]] {
            let across = if stride == self.c { self.w * self.c } else { self.c };
            for line in 0..others {
                for channel in 0..self.c {
                    let place = |t: usize| line * across + t * stride + channel;
                    let before: Vec<f64> = (0..len).map(|t| self.values[place(t)]).collect();
                    for t in 0..len {
                        let near = |k: usize| (t + k).saturating_sub(reach).min(len - 1);
                        self.values[place(t)] =
                            weights.iter().enumerate().map(|(k, weight)| weight * before[near(k)]).sum();
                    }
                }
            }
        }
    }

    /// The mean over `⌊factor · h⌋` by `⌊factor · w⌋` equal rectangles, each pixel then that of the rectangle of its center.
    fn pixelate(&mut self, factor: f64) {
        let fewer = |side: usize| ((factor * side as f64).floor() as usize).max(1);
        let (rows, columns) = (fewer(self.h), fewer(self.w));
        let shares = [(self.h, rows), (self.w, columns)].map(|(side, parts)| overlaps(side, parts));
        let center = |i: usize, side: usize, parts: usize| (2 * i + 1) * parts / (2 * side);
        for channel in 0..self.c {
            let before: Vec<f64> = self.values.iter().skip(channel).step_by(self.c).copied().collect();
            let mut coarse = vec![0.0; rows * columns];
            for (row, across) in shares[0].iter().enumerate() {
                for (column, along) in shares[1].iter().enumerate() {
                    coarse[row * columns + column] = across
                        .iter()
                        .flat_map(|&(y, p)| along.iter().map(move |&(x, q)| (y, x, p * q)))
                        .map(|(y, x, share)| share * before[y * self.w + x])
                        .sum();
                }
            }
            for y in 0..self.h {
                for x in 0..self.w {
                    let place = center(y, self.h, rows) * columns + center(x, self.w, columns);
                    self.values[(y * self.w + x) * self.c + channel] = coarse[place];
                }
            }
        }
    }
}

/// The weights of a Gaussian at the integers up to four deviations from 0, with sum one.
fn gaussian(deviation: f64) -> Vec<f64> {
    let reach = (4.0 * deviation + 0.5).floor() as i64;
    let weight = |t: i64| math::exp(-0.5 * (t as f64 / deviation).powi(2));
    let weights: Vec<f64> = (-reach..=reach).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// For each of `parts` equal parts of `side` pixels, the pixels that it covers and their shares of it.
fn overlaps(side: usize, parts: usize) -> Vec<Vec<(usize, f64)>> {
    // In units of a pixel over the number of parts, so that all ends are integers.
    let part = |i: usize| {
        let (start, end) = (i * side, (i + 1) * side);
        let covered = start / parts..end.div_ceil(parts);
        covered.map(move |t| {
            let length = end.min((t + 1) * parts) - start.max(t * parts);
            (t, length as f64 / side as f64)
        })
    };
    (0..parts).map(|i| part(i).collect()).collect()
}

#[cfg(test)]
mod tests;
