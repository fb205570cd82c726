//! Augmentation recipes: which transforms are sampled, and how likely.

use serde::{Deserialize, Serialize};

use crate::error::{Result, setting};

/// A view of an image: a named recipe that suits its shape, or one spelled out.
///
/// In a configuration file, `"strong"`, `"weak"`, `"clean"`, `"high-frequency"` or `{ custom = { … } }`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// What contrastive learning asks for: crops of very different size, colors changed.
    Strong,
    /// What supervised training uses: small shifts and mirror images.
    Weak,
    /// The image itself.
    #[default]
    Clean,
    /// The high frequencies of a weak view: without the disc of radius 8 of its spectrum, or a quarter of the smaller side
    /// where that is less (Fan et al. 2021, AdvCL). Not clamped, so that pixels may be negative.
    #[serde(rename = "high-frequency")]
    HighFrequency,
    /// Any other recipe.
    Custom(Recipe),
}

/// The distribution of a random augmentation. The default does nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Which part of the image is seen.
    pub crop: Crop,
    /// Probability of the mirror image.
    pub flip: f64,
    /// Random changes of color.
    pub jitter: Jitter,
    /// Probability of losing all color.
    pub grayscale: f64,
    /// Random loss of sharpness.
    pub blur: Blur,
    /// Probability of turning every pixel x ≥ ½ into 1 − x.
    pub solarize: f64,
    /// How a window is enlarged.
    #[serde(skip_serializing_if = "Interpolation::is_usual")]
    pub interpolation: Interpolation,
    /// What is kept are frequencies of at least so many periods per image; 0 for all.
    #[serde(skip_serializing_if = "is_zero")]
    pub high_pass: usize,
}

/// How pixels between pixels are made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// From the two nearest along each axis.
    #[default]
    Bilinear,
    /// From the four nearest along each axis, with the cubic of Keys (1981) for a = −½: weights beyond the border are left
    /// out and the others scaled to sum to one; then clamped to [0, 1]. The numbers are those of torchvision's
    /// `resized_crop` of a float tensor with `antialias=True` where the window is no larger than the result. Pillow, and
    /// torchvision on bytes, have the same weights but round and clamp to levels after each axis: 15 to 29 levels away at
    /// sharp edges.
    Bicubic,
}

impl Interpolation {
    fn is_usual(&self) -> bool {
        *self == Interpolation::Bilinear
    }
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// Which part of the image is seen; the result always has the size of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Crop {
    /// All of it.
    #[default]
    Whole,
    /// A window of random area and aspect ratio, enlarged to the size of the image.
    Resized {
        /// Smallest and largest share of the image's area.
        scale: [f64; 2],
        /// Smallest and largest ratio of width to height, uniform in its logarithm.
        #[serde(default = "usual_ratio")]
        ratio: [f64; 2],
    },
    /// A window of the image's size, anywhere in the image with a black frame around it.
    Padded {
        /// Width of the frame in pixels.
        pixels: usize,
    },
}

/// Random changes of color, applied together with some probability in a random order.
///
/// Factors of brightness, contrast and saturation are uniform in [max(0, 1 − x), 1 + x]; hue turns by
/// a share of the circle uniform in [−x, x]. Saturation and hue leave one-channel images alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jitter {
    /// Probability that any of it happens.
    pub probability: f64,
    /// Reach of the factor on all pixels.
    pub brightness: f64,
    /// Reach of the factor on the distance from the mean gray of the image.
    pub contrast: f64,
    /// Reach of the factor on the distance from each pixel's gray.
    pub saturation: f64,
    /// Reach of the turn of the color circle, at most ½.
    pub hue: f64,
}

/// Random loss of sharpness: a Gaussian of this σ cut off at the kernel and scaled to sum to one, the border mirrored
/// about the edge pixel, as torchvision's `GaussianBlur`.
///
/// lightly and solo-learn blur with Pillow, whose kernel is as wide as σ needs and whose border repeats the edge pixel: at
/// σ = 2 a kernel of 3 is 16 levels away from theirs on average, on noise. Their recipes are imported with a kernel of 23,
/// which is 2 to 4 levels away.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Blur {
    /// Probability that it happens.
    pub probability: f64,
    /// Smallest and largest σ in pixels, uniform between.
    pub sigma: [f64; 2],
    /// Width of the kernel in pixels, odd.
    pub kernel: usize,
}

impl Default for Blur {
    fn default() -> Self {
        Blur { probability: 0.0, sigma: [0.1, 2.0], kernel: 3 }
    }
}

impl View {
    /// The recipe of this view for images `(h, w, c)`.
    ///
    /// Color images get SimCLR's CIFAR setting (Chen et al. 2020, color strength ½, no blur) and the
    /// usual shifts by an eighth of the side. Gray images get milder crops, brightness and contrast.
    /// Mirror images are part of both; where they change the meaning, as with digits, use
    /// `Recipe { flip: 0.0, ..view.recipe(shape) }`.
    pub fn recipe(&self, (height, width, channels): (usize, usize, usize)) -> Recipe {
        let gray = channels == 1;
        match self {
            View::Clean => Recipe::default(),
            View::Custom(recipe) => recipe.clone(),
            View::HighFrequency => {
                let high_pass = 8.min(height.min(width) / 4).max(1);
                Recipe { high_pass, ..View::Weak.recipe((height, width, channels)) }
            }
            View::Weak => {
                let pixels = if gray { 2 } else { height.min(width) / 8 };
                Recipe { crop: Crop::Padded { pixels }, flip: 0.5, ..Recipe::default() }
            }
            View::Strong if gray => Recipe {
                crop: Crop::Resized { scale: [0.3, 1.0], ratio: usual_ratio() },
                flip: 0.5,
                jitter: Jitter {
                    probability: 0.8,
                    brightness: 0.4,
                    contrast: 0.4,
                    saturation: 0.0,
                    hue: 0.0,
                },
                ..Recipe::default()
            },
            View::Strong => Recipe {
                crop: Crop::Resized { scale: [0.08, 1.0], ratio: usual_ratio() },
                flip: 0.5,
                jitter: Jitter {
                    probability: 0.8,
                    brightness: 0.4,
                    contrast: 0.4,
                    saturation: 0.4,
                    hue: 0.1,
                },
                grayscale: 0.2,
                ..Recipe::default()
            },
        }
    }
}

impl Recipe {
    /// The recipe at a strength between 0 (nothing but the mirror image happens) and 1 (as written), for annealed schedules:
    /// reaches, probabilities and the missing area shrink in proportion (Luo et al. 2023, DynACL). Mirror images, ratios of
    /// windows and what is not random stay.
    ///
    /// # Panics
    /// If `strength` is outside [0, 1].
    #[track_caller]
    pub fn at_strength(&self, strength: f64) -> Recipe {
        assert!((0.0..=1.0).contains(&strength), "Recipe::at_strength: {strength} is outside [0, 1]");
        let toward_one = |x: f64| x + (1.0 - x) * (1.0 - strength);
        let crop = match self.crop {
            Crop::Whole => Crop::Whole,
            Crop::Resized { scale, ratio } => Crop::Resized { scale: scale.map(toward_one), ratio },
            Crop::Padded { pixels } => Crop::Padded { pixels: (pixels as f64 * strength).round() as usize },
        };
        let Jitter { probability, brightness, contrast, saturation, hue } = self.jitter;
        Recipe {
            crop,
            flip: self.flip,
            jitter: Jitter {
                probability: probability * strength,
                brightness: brightness * strength,
                contrast: contrast * strength,
                saturation: saturation * strength,
                hue: hue * strength,
            },
            grayscale: self.grayscale * strength,
            blur: Blur { probability: self.blur.probability * strength, ..self.blur },
            solarize: self.solarize * strength,
            interpolation: self.interpolation,
            high_pass: self.high_pass,
        }
    }

    /// Checks that the numbers make sense for images `(h, w, c)`.
    ///
    /// # Errors
    /// With the first setting that does not.
    pub fn check(&self, (height, width, channels): (usize, usize, usize)) -> Result<()> {
        let Jitter { probability, brightness, contrast, saturation, hue } = self.jitter;
        for (name, p) in [
            ("flip", self.flip),
            ("grayscale", self.grayscale),
            ("solarize", self.solarize),
            ("jitter.probability", probability),
            ("blur.probability", self.blur.probability),
        ] {
            demand((0.0..=1.0).contains(&p), name, p, "a probability between 0 and 1")?;
        }
        for (name, reach, most) in [
            ("jitter.brightness", brightness, f64::MAX),
            ("jitter.contrast", contrast, f64::MAX),
            ("jitter.saturation", saturation, f64::MAX),
            ("jitter.hue", hue, 0.5),
        ] {
            demand((0.0..=most).contains(&reach), name, reach, "a reach of 0 or more, for hue at most 0.5")?;
        }
        match self.crop {
            Crop::Whole => {}
            Crop::Resized { scale: [s0, s1], ratio: [r0, r1] } => {
                demand(
                    0.0 < s0 && s0 <= s1 && s1 <= 1.0,
                    "crop.scale",
                    [s0, s1],
                    "0 < smallest ≤ largest ≤ 1",
                )?;
                let fits = 0.0 < r0 && r0 <= r1 && r1.is_finite();
                demand(fits, "crop.ratio", [r0, r1], "0 < smallest ≤ largest")?;
            }
            Crop::Padded { pixels } => {
                demand(
                    pixels <= height.min(width),
                    "crop.pixels",
                    pixels,
                    "a frame no wider than the image",
                )?;
            }
        }
        demand(
            2 * self.high_pass <= height.min(width),
            "high_pass",
            self.high_pass,
            "a radius of at most half the smaller side",
        )?;
        let Blur { sigma: [s0, s1], kernel, .. } = self.blur;
        let fits = 0.0 < s0 && s0 <= s1 && s1.is_finite();
        demand(fits, "blur.sigma", [s0, s1], "0 < smallest ≤ largest")?;
        let fits = kernel % 2 == 1 && (self.blur.probability == 0.0 || kernel / 2 < height.min(width));
        demand(fits, "blur.kernel", kernel, "an odd width, half of which is smaller than the image")?;
        demand(
            channels == 1 || channels == 3,
            "images",
            format!("{channels} channels"),
            "one channel or three",
        )
    }
}

fn usual_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

fn demand(fits: bool, name: &str, value: impl std::fmt::Debug, wanted: &str) -> Result<()> {
    if fits {
        return Ok(());
    }
    Err(setting(
        format!("augmentation {name} = {value:?}"),
        "the value is out of range",
        format!("give {wanted}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::sampled::SampledTransform;
    use super::*;
    use tarrl_tensor::Key;

    const GRAY: (usize, usize, usize) = (28, 28, 1);
    const COLOR: (usize, usize, usize) = (32, 32, 3);

    #[derive(Deserialize)]
    struct File {
        views: Vec<View>,
    }

    #[test]
    fn views_are_read_by_name_or_in_full() {
        let text = r#"views = ["high-frequency", "clean", { custom = { flip = 0.5, crop = { kind = "resized", scale = [0.5, 1.0] }, blur = { probability = 0.1 } } }]"#;
        let views = toml::from_str::<File>(text).unwrap().views;
        assert_eq!(views[..2], [View::HighFrequency, View::Clean]);
        let [color, gray] = [COLOR, GRAY].map(|shape| views[0].recipe(shape));
        assert_eq!((color.high_pass, gray.high_pass), (8, 7));
        assert_eq!(Recipe { high_pass: 0, ..color }, View::Weak.recipe(COLOR));
        let recipe = views[2].recipe(COLOR);
        assert_eq!(recipe.crop, Crop::Resized { scale: [0.5, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] });
        assert_eq!((recipe.flip, recipe.blur.kernel, recipe.solarize), (0.5, 3, 0.0));
    }

    #[test]
    fn unknown_keys_and_names_are_errors() {
        for (text, word) in [
            (r#"views = ["stronk"]"#, "stronk"),
            ("views = [{ custom = { flop = 0.5 } }]", "flop"),
            (r#"views = [{ custom = { crop = { kind = "padded", pixels = 4, fill = 1 } } }]"#, "fill"),
            ("views = [{ custom = { jitter = { color = 0.5 } } }]", "color"),
            ("views = [{ custom = { blur = { radius = 1 } } }]", "radius"),
        ] {
            let message = toml::from_str::<File>(text).err().expect(text).to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn presets_pass_and_nonsense_does_not() {
        for view in [View::Strong, View::Weak, View::Clean, View::HighFrequency] {
            view.recipe(GRAY).check(GRAY).unwrap();
            view.recipe(COLOR).check(COLOR).unwrap();
        }
        let bad = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            recipe.check(GRAY).unwrap_err().to_string()
        };
        for (message, key) in [
            (bad(|r| r.flip = 1.5), "flip = 1.5"),
            (bad(|r| r.jitter.hue = 0.6), "jitter.hue = 0.6"),
            (bad(|r| r.jitter.contrast = f64::NAN), "jitter.contrast = NaN"),
            (bad(|r| r.crop = Crop::Resized { scale: [0.0, 1.0], ratio: [1.0, 1.0] }), "crop.scale"),
            (bad(|r| r.crop = Crop::Resized { scale: [0.5, 1.0], ratio: [2.0, 1.0] }), "crop.ratio"),
            (bad(|r| r.crop = Crop::Padded { pixels: 29 }), "crop.pixels = 29"),
            (bad(|r| r.high_pass = 15), "high_pass = 15"),
            (bad(|r| r.blur.kernel = 4), "blur.kernel = 4"),
            (bad(|r| r.blur.sigma = [0.0, 1.0]), "blur.sigma"),
        ] {
            assert!(message.contains(key) && message.contains("give "), "{message}");
        }
    }

    #[test]
    fn strength_scales_a_recipe_from_nothing_to_itself() {
        for shape in [GRAY, COLOR] {
            let strong = View::Strong.recipe(shape);
            assert_eq!(strong.at_strength(1.0), strong);
            let none = strong.at_strength(0.0);
            // All of the area at another ratio does not fit, so that the sampled window is the whole image.
            assert_eq!(none.crop, Crop::Resized { scale: [1.0, 1.0], ratio: usual_ratio() });
            for seed in 0..50u64 {
                let transform = SampledTransform::sample(&none, shape, Key::new(seed));
                assert_eq!(
                    transform,
                    SampledTransform {
                        flip: transform.flip,
                        ..SampledTransform::sample(&Recipe::default(), shape, Key::new(0))
                    }
                );
            }
            assert_eq!(none.flip, 0.5);
        }
        // As DynACL writes it for s = ½: scale (1 − .9 s, 1), jitter (.4 s, .4 s, .4 s, .1 s) with .8 s, gray .2 s.
        let dynacl = Recipe {
            crop: Crop::Resized { scale: [0.1, 1.0], ratio: usual_ratio() },
            ..View::Strong.recipe(COLOR)
        };
        let half = dynacl.at_strength(0.5);
        let Crop::Resized { scale, .. } = half.crop else { panic!("{half:?}") };
        assert!((scale[0] - 0.55).abs() < 1e-15 && scale[1] == 1.0, "{scale:?}");
        let Jitter { probability, brightness, contrast, saturation, hue } = half.jitter;
        assert_eq!([probability, brightness, contrast, saturation, hue], [0.4, 0.2, 0.2, 0.2, 0.05]);
        assert_eq!((half.flip, half.grayscale), (0.5, 0.1));
    }

    /// What was written before these keys existed means the same, and is written the same.
    #[test]
    fn keys_with_default_values_are_not_serialized() {
        let text = toml::to_string(&Recipe::default()).unwrap();
        assert!(!text.contains("interpolation") && !text.contains("high_pass"), "{text}");
        let other = Recipe { interpolation: Interpolation::Bicubic, high_pass: 3, ..Recipe::default() };
        let text = toml::to_string(&other).unwrap();
        assert!(text.contains("interpolation = \"bicubic\"") && text.contains("high_pass = 3"), "{text}");
        assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), other);
    }
}
