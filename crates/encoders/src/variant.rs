//! What differs from an architecture as published.

use serde::{Deserialize, Serialize};

/// What differs from an architecture as published; by default nothing. Encoders that other programs trained have these
/// forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Variant {
    /// ResNets for small images: padding of the stem, 1 as published or 2, which makes maps two pixels larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem_padding: Option<usize>,
    /// ResNets for small images: no ReLU between the stem and the first block.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub linear_stem: bool,
    /// WideResNets: channels of the stem, whatever the width; published are 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stem_channels: Option<usize>,
    /// WideResNets: layers, 6n + 4; transformers: blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Transformers: heads of attention, of 64 dimensions each at width 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Transformers: the side of a patch in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<usize>,
    /// Transformers: the image tower of CLIP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<ClipTower>,
}

/// The image tower of CLIP (Radford et al. 2021): a vision transformer with a layer norm before its blocks, patches without a
/// bias, and 1e-5 added to variances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipTower {
    /// Dimensions of the linear map after the last layer norm, which makes the representation; none without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection: Option<usize>,
    /// Whether the activation is `x·σ(1.702·x)`, as in the weights of CLIP's authors, instead of GELU.
    #[serde(skip_serializing_if = "is_false")]
    pub quick_gelu: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Variant {
    /// Whether nothing differs.
    pub(crate) fn is_published(&self) -> bool {
        *self == Variant::default()
    }
}
