//! Scale controls: what displacements are divided by, so that no network can make them small by shrinking.

use serde::{Deserialize, Serialize};

/// How the scale of a representation is controlled where the divergence does not: what both representations
/// are put through before they are compared.
///
/// With [`SquaredL2`](crate::Divergence::SquaredL2), [`Variance`](Scale::Variance) is the ratio `E‖Δ‖² / tr Cov` and
/// [`Whitened`](Scale::Whitened) is `E Δᵀ Cov⁻¹ Δ / d`; with [`L2`](crate::Divergence::L2), [`Pairs`](Scale::Pairs) is
/// `E‖Δ‖ / E‖f(x) − f(x̃)‖`. The first and third do not change with scale, rotation and shift of the
/// representation, the second (without its ridge) not even under other invertible affine maps. All references
/// are those of the clean batch, and gradients go through them. Section G4 of docs/theory.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Raw representations: the objective has to control the scale.
    #[default]
    None,
    /// Every representation divided by its length.
    Normalized,
    /// In units of a noise of fixed deviation σ. The objective, and later the heads, must see that noise,
    /// which is what holds the scale: a network that shrinks its representations loses them in the noise.
    Noise,
    /// In units of a noise of deviation σ times [`total_deviation`](super::total_deviation) of the batch, so that noise and
    /// displacements keep their proportion to what is told apart whatever the scale. The objective, and later the heads,
    /// must see that noise.
    RelativeNoise,
    /// In units of `√(tr Cov)`, the root mean square distance from the mean.
    Variance,
    /// In units of `Cov^{1/2} √d`, direction by direction.
    Whitened,
    /// In units of the mean distance of two samples.
    Pairs,
}

impl Scale {
    /// All of them.
    pub const ALL: [Scale; 7] = [
        Scale::None,
        Scale::Normalized,
        Scale::Noise,
        Scale::RelativeNoise,
        Scale::Variance,
        Scale::Whitened,
        Scale::Pairs,
    ];
}
