//! Configuration of encoders.

use serde::{Deserialize, Serialize};

use crate::variant::Variant;

/// Side of the patches of the vision transformer, in pixels.
pub(crate) const VIT_PATCH: usize = 4;

/// The most channels, and the longest side, of images: beyond what small images are, and small enough that no product of
/// extents wraps.
const MOST: usize = 4096;

/// The most layers or blocks.
const DEEPEST: usize = 1000;

/// The architecture of an encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arch {
    /// Four 3×3 convolutions, 32-64-64-128 channels, the second and fourth with stride 2, each with batch
    /// norm and ReLU; global average pool. For 28×28 images.
    #[default]
    #[serde(rename = "conv-small")]
    ConvSmall,
    /// Two convolutions of stride 2, 5×5 with 16 and 3×3 with 32 channels, each with batch norm and ReLU, then a
    /// matrix from all positions to 32. For certified training.
    #[serde(rename = "conv-flat")]
    ConvFlat,
    /// VGG-11 with batch norm (Simonyan & Zisserman 2015, configuration A) for small images: eight 3×3 convolutions of
    /// 64 to 512 channels, max-pools between.
    #[serde(rename = "vgg11")]
    Vgg11,
    /// VGG-13, with ten convolutions.
    #[serde(rename = "vgg13")]
    Vgg13,
    /// VGG-16, with thirteen.
    #[serde(rename = "vgg16")]
    Vgg16,
    /// VGG-19, with sixteen.
    #[serde(rename = "vgg19")]
    Vgg19,
    /// ResNet-18 (He et al. 2016) as published, for large images: a 7×7 convolution with stride 2, a max-pool of 3×3 with
    /// stride 2; stages of 64-128-256-512 channels.
    #[serde(rename = "resnet18")]
    ResNet18,
    /// ResNet-34 with that stem.
    #[serde(rename = "resnet34")]
    ResNet34,
    /// ResNet-50 with that stem; 2048 dimensions.
    #[serde(rename = "resnet50")]
    ResNet50,
    /// ResNet-18 with the stem of small images: one 3×3 convolution with stride 1 and padding 1, no max-pool.
    #[serde(rename = "resnet18-cifar")]
    ResNet18Cifar,
    /// ResNet-34 with that stem.
    #[serde(rename = "resnet34-cifar")]
    ResNet34Cifar,
    /// ResNet-50 with that stem; 2048 dimensions.
    #[serde(rename = "resnet50-cifar")]
    ResNet50Cifar,
    /// The wide residual network of 28 layers, ten times as wide as at first (Zagoruyko & Komodakis 2016).
    #[serde(rename = "wrn-28-10")]
    Wrn28x10,
    /// The same of 34 layers, as work on robustness uses it (Zhang et al. 2019, TRADES).
    #[serde(rename = "wrn-34-10")]
    Wrn34x10,
    /// A vision transformer of twelve blocks, three heads and 192 dimensions on patches of 4×4 pixels (Dosovitskiy et al.
    /// 2021; Touvron et al. 2021 for the size). Without batch norm.
    #[serde(rename = "vit-tiny")]
    VitTiny,
    /// Three hidden layers of 512 units on the pixels, each with batch norm and ReLU.
    #[serde(rename = "mlp")]
    Mlp,
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Arch; 16] = [
        Arch::ConvSmall,
        Arch::ConvFlat,
        Arch::Vgg11,
        Arch::Vgg13,
        Arch::Vgg16,
        Arch::Vgg19,
        Arch::ResNet18,
        Arch::ResNet34,
        Arch::ResNet50,
        Arch::ResNet18Cifar,
        Arch::ResNet34Cifar,
        Arch::ResNet50Cifar,
        Arch::Wrn28x10,
        Arch::Wrn34x10,
        Arch::VitTiny,
        Arch::Mlp,
    ];

    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Arch::ConvSmall => "conv-small",
            Arch::ConvFlat => "conv-flat",
            Arch::Vgg11 => "vgg11",
            Arch::Vgg13 => "vgg13",
            Arch::Vgg16 => "vgg16",
            Arch::Vgg19 => "vgg19",
            Arch::ResNet18 => "resnet18",
            Arch::ResNet34 => "resnet34",
            Arch::ResNet50 => "resnet50",
            Arch::ResNet18Cifar => "resnet18-cifar",
            Arch::ResNet34Cifar => "resnet34-cifar",
            Arch::ResNet50Cifar => "resnet50-cifar",
            Arch::Wrn28x10 => "wrn-28-10",
            Arch::Wrn34x10 => "wrn-34-10",
            Arch::VitTiny => "vit-tiny",
            Arch::Mlp => "mlp",
        }
    }

    /// Whether its tensors depend on the size of the images, so that [`EncoderConfig::side`] is required.
    pub fn needs_side(self) -> bool {
        matches!(self, Arch::ConvFlat | Arch::VitTiny | Arch::Mlp)
    }

    /// Whether [`interval_displacement`](crate::Encoder::interval_displacement) and
    /// [`spectral_norms`](crate::Encoder::spectral_norms) support it, which have no rule for attention.
    pub fn has_intervals(self) -> bool {
        self != Arch::VitTiny
    }

    /// Whether it is a ResNet with the stem of small images.
    pub(crate) fn has_small_stem(self) -> bool {
        matches!(self, Arch::ResNet18Cifar | Arch::ResNet34Cifar | Arch::ResNet50Cifar)
    }

    /// Whether it has batch norm, and so can have two sets of it.
    pub fn has_batch_norm(self) -> bool {
        self != Arch::VitTiny
    }
}

/// How many sets of batch norm a network has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormMode {
    /// One, for all inputs.
    #[default]
    Single,
    /// Two, one for each [`BnBranch`](crate::BnBranch) of a pass; everything else is shared (Xie et al. 2020).
    Dual,
}

impl BatchNormMode {
    /// Whether it is the default, which is not serialized.
    fn is_single(&self) -> bool {
        *self == BatchNormMode::Single
    }
}

/// An encoder: everything that determines the shapes of its tensors and the meaning of its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// The network.
    pub arch: Arch,
    /// Multiplies the number of channels of every layer; 1 is the published width.
    pub width: f64,
    /// Channels of the images.
    pub in_channels: usize,
    /// Mean of the pixels of each channel, subtracted inside the model; empty for zero.
    /// Inputs are pixels in `[0, 1]`.
    pub mean: Vec<f64>,
    /// Standard deviation of the pixels of each channel, divided by inside the model; empty for one.
    pub std: Vec<f64>,
    /// One set of batch norm, or one for clean and one for attacked images.
    #[serde(skip_serializing_if = "BatchNormMode::is_single")]
    pub norm: BatchNormMode,
    /// Height and width of the images, for networks whose tensors depend on it; else 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub side: usize,
    /// What differs from the architecture as published.
    #[serde(skip_serializing_if = "Variant::is_published")]
    pub variant: Variant,
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

impl Default for EncoderConfig {
    fn default() -> Self {
        EncoderConfig {
            arch: Arch::ConvSmall,
            width: 1.0,
            in_channels: 1,
            mean: vec![],
            std: vec![],
            norm: BatchNormMode::Single,
            side: 0,
            variant: Variant::default(),
        }
    }
}

impl EncoderConfig {
    /// Whether an encoder can be built from these values.
    ///
    /// # Errors
    /// Names the first field whose value makes no network.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fault = |field, cause: String| Err(ConfigError { field, cause });
        if !(self.width > 0.0 && self.width <= 64.0) {
            return fault("width", format!("{} is not in (0, 64]", self.width));
        }
        if self.in_channels == 0 || self.in_channels > MOST {
            return fault("in_channels", format!("{} is not in 1 to {MOST}", self.in_channels));
        }
        if self.side > MOST {
            return fault("side", format!("{} is more than {MOST}", self.side));
        }
        let name = self.arch.name();
        if self.arch.needs_side() && self.side == 0 {
            return fault("side", format!("{name} must know the height of the images; give it"));
        }
        self.check_variant()?;
        let patch = self.variant.patch.unwrap_or(VIT_PATCH);
        if self.arch == Arch::VitTiny && !self.side.is_multiple_of(patch) {
            return fault("side", format!("{} cannot be cut into patches of {patch} pixels", self.side));
        }
        if self.norm == BatchNormMode::Dual && !self.arch.has_batch_norm() {
            return fault("norm", format!("{name} has no batch norm to have two of; leave it out"));
        }
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if !values.is_empty() && values.len() != self.in_channels {
                return fault(field, format!("{} values for {} channels", values.len(), self.in_channels));
            }
            if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                return fault(field, format!("{value} is not finite"));
            }
        }
        match self.std.iter().find(|v| **v <= 0.0) {
            Some(value) => fault("std", format!("{value} is not positive")),
            None => Ok(()),
        }
    }

    fn check_variant(&self) -> Result<(), ConfigError> {
        let Variant { stem_padding, linear_stem, stem_channels, depth, heads, patch, clip } = self.variant;
        let transformer = self.arch == Arch::VitTiny;
        let wide = matches!(self.arch, Arch::Wrn28x10 | Arch::Wrn34x10);
        for (field, value, has, (least, most)) in [
            ("variant.stem_padding", stem_padding, self.arch.has_small_stem(), (1, 2)),
            ("variant.linear_stem", linear_stem.then_some(1), self.arch.has_small_stem(), (1, 1)),
            ("variant.stem_channels", stem_channels, wide, (1, MOST)),
            ("variant.depth", depth, wide || transformer, (if wide { 10 } else { 1 }, DEEPEST)),
            ("variant.heads", heads, transformer, (1, MOST)),
            ("variant.patch", patch, transformer, (1, MOST)),
            ("variant.clip", clip.map(|clip| clip.projection.unwrap_or(1)), transformer, (1, MOST)),
        ] {
            let cause = match value {
                Some(_) if !has => format!("{} has none; leave it out", self.arch.name()),
                Some(value) if value < least || value > most => {
                    format!("{value} is not in {least} to {most}")
                }
                Some(value) if wide && field == "variant.depth" && value % 6 != 4 => {
                    format!("{value} layers are not 6n + 4, as 28, 34 and 70 are")
                }
                _ => continue,
            };
            return Err(ConfigError { field, cause });
        }
        Ok(())
    }

    /// Whether encoders of this configuration take images of `(height, width, channels)`.
    ///
    /// # Errors
    /// Names the field that the images do not suit.
    pub fn check_images(&self, (height, width, channels): (usize, usize, usize)) -> Result<(), ConfigError> {
        let fault = |field, cause: String| Err(ConfigError { field, cause });
        if channels != self.in_channels {
            return fault("in_channels", format!("{} for images of {channels} channels", self.in_channels));
        }
        let (name, side) = (self.arch.name(), self.side);
        if self.arch.needs_side() && [height, width] != [side; 2] {
            return fault(
                "side",
                format!(
                    "{name} for images of {side}×{side} cannot take {height}×{width}; bring the images to that size, or \
                     use an architecture without a fixed side"
                ),
            );
        }
        Ok(())
    }

    /// The number of channels of a layer that has `base` of them at width 1.
    pub(crate) fn channels(&self, base: usize) -> usize {
        ((base as f64 * self.width).round() as usize).max(1)
    }
}

/// An invalid field of a configuration, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("encoder field `{field}`: {cause}")]
pub struct ConfigError {
    field: &'static str,
    cause: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variant::ClipTower;

    #[test]
    fn names_in_files_are_those_of_the_documentation() {
        for arch in Arch::ALL {
            assert_eq!(serde_json::to_string(&arch).unwrap(), format!("\"{}\"", arch.name()));
        }
        let error = serde_json::from_str::<EncoderConfig>(r#"{"widht": 2.0}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `widht`"), "{error}");
    }

    /// Configurations without these keys keep their meaning and their bytes.
    #[test]
    fn default_values_are_not_serialized() {
        let text = r#"{"arch":"conv-small","width":1.0,"in_channels":1,"mean":[],"std":[]}"#;
        let config: EncoderConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config, EncoderConfig::default());
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        let dual = EncoderConfig { norm: BatchNormMode::Dual, side: 28, ..config };
        let text = serde_json::to_string(&dual).unwrap();
        assert!(text.contains(r#""norm":"dual","side":28"#), "{text}");
    }

    #[test]
    fn images_of_another_shape_are_refused() {
        let fixed = EncoderConfig { arch: Arch::Mlp, side: 28, ..Default::default() };
        assert_eq!(fixed.check_images((28, 28, 1)), Ok(()));
        for (shape, field) in [((28, 28, 3), "in_channels"), ((28, 20, 1), "side"), ((32, 32, 1), "side")] {
            assert_eq!(fixed.check_images(shape).unwrap_err().field, field);
        }
        assert_eq!(EncoderConfig::default().check_images((28, 20, 1)), Ok(()));
    }

    #[test]
    fn invalid_fields_are_named() {
        let good = EncoderConfig { in_channels: 3, ..Default::default() };
        assert_eq!(good.check(), Ok(()));
        let none = Variant::default();
        let variant = |arch, variant| EncoderConfig { arch, side: 32, variant, ..good.clone() };
        let cases = [
            (EncoderConfig { width: 0.0, ..good.clone() }, "width"),
            (EncoderConfig { width: f64::NAN, ..good.clone() }, "width"),
            (EncoderConfig { in_channels: 0, ..good.clone() }, "in_channels"),
            (EncoderConfig { in_channels: 1 << 40, ..good.clone() }, "in_channels"),
            (EncoderConfig { arch: Arch::Mlp, side: 1 << 40, ..good.clone() }, "side"),
            (EncoderConfig { mean: vec![0.5], ..good.clone() }, "mean"),
            (EncoderConfig { std: vec![1.0, 0.0, 1.0], ..good.clone() }, "std"),
            (EncoderConfig { std: vec![1.0, f64::INFINITY, 1.0], ..good.clone() }, "std"),
            (EncoderConfig { arch: Arch::Mlp, ..good.clone() }, "side"),
            (EncoderConfig { arch: Arch::ConvFlat, ..good.clone() }, "side"),
            (EncoderConfig { arch: Arch::VitTiny, side: 30, ..good.clone() }, "side"),
            (variant(Arch::Wrn28x10, Variant { depth: Some(27), ..none }), "variant.depth"),
            (variant(Arch::Wrn28x10, Variant { patch: Some(4), ..none }), "variant.patch"),
            (variant(Arch::ResNet18, Variant { stem_padding: Some(2), ..none }), "variant.stem_padding"),
            (variant(Arch::ResNet18Cifar, Variant { stem_padding: Some(3), ..none }), "variant.stem_padding"),
            (variant(Arch::ResNet18, Variant { linear_stem: true, ..none }), "variant.linear_stem"),
            (variant(Arch::VitTiny, Variant { heads: Some(0), ..none }), "variant.heads"),
            (variant(Arch::Mlp, Variant { clip: Some(ClipTower::default()), ..none }), "variant.clip"),
            (
                variant(
                    Arch::VitTiny,
                    Variant { clip: Some(ClipTower { projection: Some(0), quick_gelu: true }), ..none },
                ),
                "variant.clip",
            ),
            (
                EncoderConfig { arch: Arch::VitTiny, side: 32, norm: BatchNormMode::Dual, ..good.clone() },
                "norm",
            ),
        ];
        for (config, field) in cases {
            let error = config.check().unwrap_err();
            assert_eq!(error.field, field, "{error}");
        }
    }
}
