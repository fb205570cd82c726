//! Configuration of projectors and predictors.

use crate::config::BatchNormMode;
use serde::{Deserialize, Serialize};

/// What follows the last linear map of a head, or a hidden one before its ReLU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// Nothing; the linear map has a bias.
    Nothing,
    /// Batch norm; the linear map has no bias.
    #[default]
    Norm,
    /// Batch norm without scale and shift; the linear map has no bias.
    PlainNorm,
}

/// A projector: `layers − 1` times Linear, batch norm, ReLU of `hidden` units, then Linear to `out`, then
/// `last` and `prototypes`.
///
/// | method | `layers` | `hidden` | `out` | else |
/// |---|---|---|---|---|
/// | SimCLR, BYOL, W-MSE | 2 | 512 to 4096 | 64 to 256 | |
/// | MoCo v2, SupCon, RoCL | 2 | as the representation, 2048 | 128 | `hidden_norm = "nothing"` |
/// | MoCo v3 | 2 | 4096 | 256 | `last = "plain-norm"` |
/// | SimSiam | 2 or 3 | 2048 | 2048 | `last = "plain-norm"` |
/// | Barlow Twins, VICReg | 3 | 2048 to 8192 | the same | |
/// | ACL and its descendants | 3 | 512 | 512 | `last = "norm"`, `norm = "dual"` |
/// | SwAV, DINO | 2 | 2048 | 128, 256 | `prototypes` |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectorConfig {
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Dimension of the last linear map.
    pub out: usize,
    /// Number of linear layers; SimCLR has two.
    pub layers: usize,
    /// What follows a hidden linear map.
    #[serde(skip_serializing_if = "is_norm")]
    pub hidden_norm: After,
    /// What follows the last linear map.
    #[serde(skip_serializing_if = "is_nothing")]
    pub last: After,
    /// Scores instead of embeddings: products of the embeddings as unit rows with so many unit prototypes; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub prototypes: usize,
    /// One set of batch norm, or one for clean and one for attacked images.
    #[serde(skip_serializing_if = "is_single")]
    pub norm: BatchNormMode,
}

impl Default for ProjectorConfig {
    fn default() -> Self {
        ProjectorConfig {
            hidden: 512,
            out: 128,
            layers: 2,
            hidden_norm: After::Norm,
            last: After::Nothing,
            prototypes: 0,
            norm: BatchNormMode::Single,
        }
    }
}

impl ProjectorConfig {
    /// The dimension of the result: of scores, if there are prototypes.
    pub fn dim(&self) -> usize {
        if self.prototypes > 0 { self.prototypes } else { self.out }
    }
}

/// A predictor: Linear, batch norm, ReLU of `hidden` units, then Linear back to the dimension that it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PredictorConfig {
    /// Width of the hidden layer: a quarter of the dimension in SimSiam, 4096 in BYOL and MoCo v3.
    pub hidden: usize,
    /// What follows the last linear map: nothing, but for the transformers of MoCo v3.
    #[serde(skip_serializing_if = "is_nothing")]
    pub last: After,
    /// One set of batch norm, or one for clean and one for attacked images.
    #[serde(skip_serializing_if = "is_single")]
    pub norm: BatchNormMode,
}

impl Default for PredictorConfig {
    fn default() -> Self {
        PredictorConfig { hidden: 512, last: After::Nothing, norm: BatchNormMode::Single }
    }
}

fn is_norm(after: &After) -> bool {
    *after == After::Norm
}

fn is_nothing(after: &After) -> bool {
    *after == After::Nothing
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

fn is_single(norms: &BatchNormMode) -> bool {
    *norms == BatchNormMode::Single
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_values_are_not_serialized() {
        let text = r#"{"hidden":512,"out":128,"layers":2}"#;
        let config: ProjectorConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config, ProjectorConfig::default());
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert_eq!(serde_json::to_string(&PredictorConfig::default()).unwrap(), r#"{"hidden":512}"#);
        let other = ProjectorConfig {
            hidden_norm: After::Nothing,
            last: After::PlainNorm,
            prototypes: 7,
            norm: BatchNormMode::Dual,
            ..config
        };
        let text = serde_json::to_string(&other).unwrap();
        assert!(
            text.contains(r#""hidden_norm":"nothing","last":"plain-norm","prototypes":7,"norm":"dual""#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<ProjectorConfig>(&text).unwrap(), other);
        assert_eq!((other.dim(), ProjectorConfig::default().dim()), (7, 128));
    }
}
