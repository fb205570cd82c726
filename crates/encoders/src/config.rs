//! What an encoder and a projector are made of, as data.

use serde::{Deserialize, Serialize};

/// The shape of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arch {
    /// Four 3×3 convolutions, 32-64-64-128 channels, the second and fourth with stride 2, each with batch
    /// norm and ReLU; global average pool. For 28×28 images.
    #[default]
    #[serde(rename = "conv-small")]
    ConvSmall,
    /// ResNet-18 (He et al. 2016) with the stem of small images: one 3×3 convolution with stride 1 and
    /// padding 1, no max-pool; stages of 64-128-256-512 channels.
    #[serde(rename = "resnet18-cifar")]
    ResNet18Cifar,
}

impl Arch {
    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Arch::ConvSmall => "conv-small",
            Arch::ResNet18Cifar => "resnet18-cifar",
        }
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
}

impl Default for EncoderConfig {
    fn default() -> Self {
        EncoderConfig { arch: Arch::ConvSmall, width: 1.0, in_channels: 1, mean: vec![], std: vec![] }
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
        if self.in_channels == 0 {
            return fault("in_channels", "there must be at least one channel".into());
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

    /// The number of channels of a layer that has `base` of them at width 1.
    pub(crate) fn channels(&self, base: usize) -> usize {
        ((base as f64 * self.width).round() as usize).max(1)
    }
}

/// A field of a configuration that makes no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("encoder field `{field}`: {cause}")]
pub struct ConfigError {
    field: &'static str,
    cause: String,
}

/// A projector: `layers − 1` times Linear, batch norm, ReLU of `hidden` units, then Linear to `out`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectorConfig {
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Dimension of the result.
    pub out: usize,
    /// Number of linear layers; SimCLR has two.
    pub layers: usize,
}

impl Default for ProjectorConfig {
    fn default() -> Self {
        ProjectorConfig { hidden: 512, out: 128, layers: 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_files_are_the_documented_ones() {
        for arch in [Arch::ConvSmall, Arch::ResNet18Cifar] {
            assert_eq!(serde_json::to_string(&arch).unwrap(), format!("\"{}\"", arch.name()));
        }
        let error = serde_json::from_str::<EncoderConfig>(r#"{"widht": 2.0}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `widht`"), "{error}");
    }

    #[test]
    fn values_that_make_no_network_are_named() {
        let good = EncoderConfig { in_channels: 3, ..Default::default() };
        assert_eq!(good.check(), Ok(()));
        let cases = [
            (EncoderConfig { width: 0.0, ..good.clone() }, "width"),
            (EncoderConfig { width: f64::NAN, ..good.clone() }, "width"),
            (EncoderConfig { in_channels: 0, ..good.clone() }, "in_channels"),
            (EncoderConfig { mean: vec![0.5], ..good.clone() }, "mean"),
            (EncoderConfig { std: vec![1.0, 0.0, 1.0], ..good.clone() }, "std"),
            (EncoderConfig { std: vec![1.0, f64::INFINITY, 1.0], ..good.clone() }, "std"),
        ];
        for (config, field) in cases {
            let error = config.check().unwrap_err();
            assert_eq!(error.field, field, "{error}");
        }
    }
}
