//! Sampled transforms: the random parameters of one augmentation of one image.

use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Stream, math};

use super::recipe::{Crop, Interpolation, Jitter, Recipe};

/// The parameters of one view of one image, sampled from a [`Recipe`]. The same transform of the same image gives the same
/// pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampledTransform {
    /// The crop.
    pub window: Window,
    /// Whether it is flipped horizontally.
    pub flip: bool,
    /// The color jitter, if any.
    pub jitter: Option<SampledJitter>,
    /// Whether it is converted to grayscale.
    pub grayscale: bool,
    /// The blur, if any.
    pub blur: Option<Gaussian>,
    /// Whether pixels of at least ½ are inverted.
    pub solarize: bool,
    /// How the window is resampled.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// The radius below which frequencies are removed; 0 for none.
    #[serde(default)]
    pub high_pass: usize,
}

/// A rectangle in pixels. It either lies inside the image and is enlarged, or has the image's size
/// and may reach beyond it into black.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Row of the upper edge.
    pub top: i32,
    /// Column of the left edge.
    pub left: i32,
    /// Number of rows.
    pub height: u32,
    /// Number of columns.
    pub width: u32,
}

/// One change of color.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorOp {
    /// f·x.
    Brightness,
    /// f·x + (1 − f)·(mean gray of the image).
    Contrast,
    /// f·x + (1 − f)·(gray of the pixel).
    Saturation,
    /// A turn of the color circle.
    Hue,
}

/// The color jitter of one view.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampledJitter {
    /// The order in which they are applied.
    pub order: [ColorOp; 4],
    /// Factor of brightness, 1 for none.
    pub brightness: f32,
    /// Factor of contrast, 1 for none.
    pub contrast: f32,
    /// Factor of saturation, 1 for none.
    pub saturation: f32,
    /// Turn of the color circle as a share of it, 0 for none.
    pub hue: f32,
}

/// A blur kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gaussian {
    /// Standard deviation in pixels.
    pub sigma: f32,
    /// Width in pixels, odd.
    pub kernel: usize,
}

impl SampledTransform {
    /// Samples the parameters for an image `(h, w, c)`.
    ///
    /// Each part has its own child of `key`, so that changing the recipe of one part leaves the samples of all others as they
    /// were.
    pub fn sample(
        recipe: &Recipe,
        (height, width, channels): (usize, usize, usize),
        key: Key,
    ) -> SampledTransform {
        let happens = |name: &str, p: f64| p > 0.0 && key.fold(name).stream().chance(p);
        let color = channels == 3;
        let window = match recipe.crop {
            Crop::Whole => Window::whole(height, width),
            Crop::Resized { scale, ratio } => {
                Window::resized([height, width], scale, ratio, &mut key.fold("crop").stream())
            }
            Crop::Padded { pixels } => {
                let mut stream = key.fold("crop").stream();
                let mut shift = || stream.below(2 * pixels + 1) as i32 - pixels as i32;
                Window { top: shift(), left: shift(), ..Window::whole(height, width) }
            }
        };
        let blur = happens("blur", recipe.blur.probability).then(|| {
            let [lo, hi] = recipe.blur.sigma;
            let sigma = key.fold("sigma").stream().uniform(lo, hi) as f32;
            Gaussian { sigma, kernel: recipe.blur.kernel }
        });
        SampledTransform {
            window,
            flip: happens("flip", recipe.flip),
            jitter: happens("jitter", recipe.jitter.probability)
                .then(|| SampledJitter::new(&recipe.jitter, &mut key.fold("colour").stream())),
            grayscale: color && happens("grayscale", recipe.grayscale),
            blur,
            solarize: happens("solarize", recipe.solarize),
            interpolation: recipe.interpolation,
            high_pass: recipe.high_pass,
        }
    }
}

impl Window {
    /// All of an image.
    pub fn whole(height: usize, width: usize) -> Window {
        Window { top: 0, left: 0, height: height as u32, width: width as u32 }
    }

    /// The window of the random resized crop: up to ten tries of area and ratio, rounded to whole
    /// pixels (ties to even); after that the largest central window of an allowed ratio.
    fn resized([height, width]: [usize; 2], scale: [f64; 2], ratio: [f64; 2], stream: &mut Stream) -> Window {
        let area = (height * width) as f64;
        let (low, high) = (math::ln(ratio[0]), math::ln(ratio[1]));
        for _ in 0..10 {
            let target = area * stream.uniform(scale[0], scale[1]);
            let aspect = math::exp(stream.uniform(low, high));
            let w = (target * aspect).sqrt().round_ties_even() as usize;
            let h = (target / aspect).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = stream.below(height - h + 1) as i32;
                let left = stream.below(width - w + 1) as i32;
                return Window { top, left, height: h as u32, width: w as u32 };
            }
        }
        Window::central([height, width], ratio)
    }

    fn central([height, width]: [usize; 2], ratio: [f64; 2]) -> Window {
        let (mut h, mut w) = (height, width);
        let aspect = width as f64 / height as f64;
        if aspect < ratio[0] {
            h = ((width as f64 / ratio[0]).round_ties_even() as usize).clamp(1, height);
        } else if aspect > ratio[1] {
            w = ((height as f64 * ratio[1]).round_ties_even() as usize).clamp(1, width);
        }
        let (top, left) = ((height - h) / 2, (width - w) / 2);
        Window { top: top as i32, left: left as i32, height: h as u32, width: w as u32 }
    }
}

impl SampledJitter {
    fn new(jitter: &Jitter, stream: &mut Stream) -> SampledJitter {
        let mut order = [ColorOp::Brightness, ColorOp::Contrast, ColorOp::Saturation, ColorOp::Hue];
        stream.shuffle(&mut order);
        let mut factor = |reach: f64| stream.uniform((1.0 - reach).max(0.0), 1.0 + reach) as f32;
        let (brightness, contrast, saturation) =
            (factor(jitter.brightness), factor(jitter.contrast), factor(jitter.saturation));
        SampledJitter {
            order,
            brightness,
            contrast,
            saturation,
            hue: stream.uniform(-jitter.hue, jitter.hue) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recipe::{Blur, View};
    use super::*;
    use std::collections::HashMap;

    const COLOR: (usize, usize, usize) = (32, 32, 3);

    fn samples(recipe: &Recipe, n: u64) -> Vec<SampledTransform> {
        (0..n).map(|i| SampledTransform::sample(recipe, COLOR, Key::new(5).fold(i))).collect()
    }

    /// Largest distance between the empirical distribution and the uniform one on [lo, hi].
    fn kolmogorov_smirnov(mut values: Vec<f64>, lo: f64, hi: f64) -> f64 {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let gaps = values.iter().enumerate().map(|(i, v)| {
            let f = (v - lo) / (hi - lo);
            (f - i as f64 / n).abs().max((f - (i + 1) as f64 / n).abs())
        });
        gaps.fold(0.0, f64::max)
    }

    fn crop(scale: [f64; 2]) -> Recipe {
        Recipe { crop: Crop::Resized { scale, ratio: [0.75, 4.0 / 3.0] }, ..Recipe::default() }
    }

    #[test]
    fn resized_crops_keep_the_known_mean_area() {
        // Mean kept share on 32×32: .490 for scale .08–1, .550 for .2–1 (known to three digits); the
        // share has standard deviation below .27, so five standard errors of 40,000 samples are .007.
        for (smallest, mean) in [(0.08, 0.490), (0.2, 0.550)] {
            let all = samples(&crop([smallest, 1.0]), 40_000);
            let kept = all.iter().map(|d| f64::from(d.window.height * d.window.width) / 1024.0);
            let found = kept.sum::<f64>() / all.len() as f64;
            assert!((found - mean).abs() < 0.0075, "{found} instead of {mean}");
            // The whole image comes in .2 % of the samples: 80 ± 5·9.
            let whole = all.iter().filter(|d| d.window == Window::whole(32, 32)).count();
            assert!((35..=125).contains(&whole), "{whole}");
        }
    }

    #[test]
    fn windows_lie_inside_and_everywhere() {
        let all = samples(&crop([0.08, 1.0]), 20_000);
        let inside = |d: &SampledTransform| {
            let w = d.window;
            w.top >= 0 && w.left >= 0 && w.top as u32 + w.height <= 32 && w.left as u32 + w.width <= 32
        };
        assert!(all.iter().all(inside));
        // Given its size, a window's place is uniform: its mean place is half of the room it has.
        let off: f64 =
            all.iter().map(|d| f64::from(2 * d.window.top) - f64::from(32 - d.window.height)).sum();
        let spread: f64 = all.iter().map(|d| f64::from(33 - d.window.height).powi(2) / 3.0).sum();
        assert!(off.abs() < 5.0 * spread.sqrt(), "{off} is more than five times {}", spread.sqrt());
    }

    #[test]
    fn impossible_windows_fall_back_to_the_center() {
        let mut stream = Key::new(0).stream();
        // The full area at any ratio but 1 does not fit, and ratio 1 of a wide image does not either.
        let window = Window::resized([10, 40], [1.0, 1.0], [1.0, 2.0], &mut stream);
        assert_eq!(window, Window { top: 0, left: 10, height: 10, width: 20 });
        let window = Window::resized([40, 10], [1.0, 1.0], [0.5, 1.0], &mut stream);
        assert_eq!(window, Window { top: 10, left: 0, height: 20, width: 10 });
    }

    #[test]
    fn padded_crops_shift_uniformly() {
        let recipe = Recipe { crop: Crop::Padded { pixels: 1 }, ..Recipe::default() };
        let mut counts = HashMap::new();
        for d in samples(&recipe, 9_000) {
            *counts.entry((d.window.top, d.window.left)).or_insert(0i32) += 1;
        }
        // Nine shifts; standard error √(9000·1/9·8/9) = 30, five of them.
        assert!(counts.len() == 9 && counts.values().all(|c| (c - 1000).abs() < 150), "{counts:?}");
    }

    #[test]
    fn factors_are_uniform_and_orders_equally_likely() {
        let jitter = Jitter { probability: 1.0, brightness: 0.4, contrast: 1.5, saturation: 0.2, hue: 0.1 };
        let n = 48_000;
        let all = samples(&Recipe { jitter, ..Recipe::default() }, n);
        let colors: Vec<SampledJitter> = all.iter().map(|d| d.jitter.unwrap()).collect();
        // The Kolmogorov–Smirnov distance exceeds 2.0/√n with probability 7e-4.
        type Part = fn(&SampledJitter) -> f32;
        let parts: [(Part, f64, f64); 4] = [
            (|c| c.brightness, 0.6, 1.4),
            (|c| c.contrast, 0.0, 2.5),
            (|c| c.saturation, 0.8, 1.2),
            (|c| c.hue, -0.1, 0.1),
        ];
        for (part, lo, hi) in parts {
            let distance = kolmogorov_smirnov(colors.iter().map(|c| f64::from(part(c))).collect(), lo, hi);
            assert!(distance < 2.0 / (n as f64).sqrt(), "{distance} for [{lo}, {hi}]");
        }
        let mut counts = HashMap::new();
        colors.iter().for_each(|c| *counts.entry(c.order).or_insert(0i32) += 1);
        // 24 orders of 2,000; standard error √(2000·23/24) = 44, five of them.
        assert!(counts.len() == 24 && counts.values().all(|c| (c - 2000).abs() < 220), "{counts:?}");
    }

    #[test]
    fn probabilities_and_sigma_are_respected() {
        let recipe = Recipe {
            flip: 0.5,
            grayscale: 0.2,
            solarize: 0.1,
            jitter: Jitter { probability: 0.8, ..Jitter::default() },
            blur: Blur { probability: 0.3, sigma: [0.5, 1.5], kernel: 5 },
            ..Recipe::default()
        };
        let n = 20_000;
        let all = samples(&recipe, n);
        type Event = fn(&SampledTransform) -> bool;
        let events: [(Event, f64); 5] = [
            (|d| d.flip, 0.5),
            (|d| d.grayscale, 0.2),
            (|d| d.solarize, 0.1),
            (|d| d.jitter.is_some(), 0.8),
            (|d| d.blur.is_some(), 0.3),
        ];
        for (event, p) in events {
            let share = all.iter().filter(|d| event(d)).count() as f64 / n as f64;
            assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / n as f64).sqrt(), "{share} instead of {p}");
        }
        let sigmas: Vec<f64> = all.iter().filter_map(|d| d.blur).map(|b| f64::from(b.sigma)).collect();
        let limit = 2.0 / (sigmas.len() as f64).sqrt();
        assert!(kolmogorov_smirnov(sigmas, 0.5, 1.5) < limit);
    }

    #[test]
    fn changing_one_part_leaves_the_others() {
        let strong = View::Strong.recipe(COLOR);
        let blurred = Recipe { blur: Blur { probability: 1.0, ..Blur::default() }, ..strong.clone() };
        for (a, b) in samples(&strong, 50).into_iter().zip(samples(&blurred, 50)) {
            assert_eq!(a, SampledTransform { blur: None, ..b });
        }
    }

    #[test]
    fn a_sampled_transform_survives_serialization() {
        for transform in samples(&View::Strong.recipe(COLOR), 20) {
            let text = toml::to_string(&transform).unwrap();
            assert_eq!(toml::from_str::<SampledTransform>(&text).unwrap(), transform, "{text}");
        }
    }
}
