//! Configuration of the regularizer, as method files give it.

use crate::divergence::{Divergence, Scale};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, Start, fraction};

/// A regularizer as method files name it, before it is checked by [`Regularizer::new`](super::Regularizer::new).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegularizerConfig {
    /// What is measured.
    pub divergence: Divergence,
    /// Against what, if the divergence has no scale of its own.
    #[serde(skip_serializing_if = "is_none")]
    pub scale: Scale,
    /// σ of `scale = "noise"`, in the units of the representation, or of `scale = "relative-noise"`, as a share of the root mean
    /// square distance of the clean batch from its mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// λ: the factor of the term in the loss; finite and not negative.
    pub weight: f64,
    /// The view that is the bound's `x`.
    pub anchor: Anchor,
    /// The attack that maximizes.
    pub inner: InnerConfig,
    /// The share of training, in `[0, 1]`, over which ε (and the step) rises linearly from zero.
    pub ramp: f64,
    /// The share of training, in `[0, 1]`, over which the weight rises linearly from zero.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_ramp: f64,
}

/// The relative displacement at weight 1 around the clean sample, without a ramp.
impl Default for RegularizerConfig {
    fn default() -> Self {
        RegularizerConfig {
            divergence: Divergence::default(),
            scale: Scale::None,
            sigma: None,
            weight: 1.0,
            anchor: Anchor::default(),
            inner: InnerConfig::default(),
            ramp: 0.0,
            weight_ramp: 0.0,
        }
    }
}

/// The view of a sample that the ball is put around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anchor {
    /// The strongly augmented view of the self-supervised loss.
    Strong,
    /// A weakly augmented view.
    Weak,
    /// The sample itself.
    #[default]
    Clean,
}

/// The inner maximizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InnerConfig {
    /// An attack of many steps or of one, or no attack.
    pub kind: InnerKind,
    /// The norm of the ball.
    pub norm: Norm,
    /// ε: its radius, in pixels of `[0, 1]`.
    #[serde(with = "fraction")]
    pub epsilon: f64,
    /// Steps; 5 if absent. FGSM takes one and allows no other number here. Of the Jacobian, random directions
    /// that its norm is estimated from; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// The length of a step; if absent `2.5 ε / steps`, and `1.25 ε` for FGSM (Wong et al. 2020). Not for APGD.
    #[serde(with = "fraction::optional", skip_serializing_if = "Option::is_none")]
    pub step_size: Option<f64>,
    /// Independent ascents, of which each sample keeps its best; at least one.
    pub restarts: usize,
    /// Where the ascent begins; only random starts are accepted.
    pub start: Start,
    /// The least and largest value of a coordinate; `None` if inputs have no range.
    pub bounds: Option<(f64, f64)>,
}

/// The kind of inner maximizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InnerKind {
    /// Projected gradient ascent.
    #[default]
    Pgd,
    /// One step from a random start.
    Fgsm,
    /// APGD, with adaptive step sizes (Croce & Hein 2020).
    Apgd,
    /// The first-order term, by differentiating twice: [`Jacobian`](super::Jacobian).
    Jacobian,
    /// No attack of its own: the caller's attack serves, and R is [`Regularizer::value`](super::Regularizer::value) at its
    /// points. The radius and the steps are that attack's, and no other key of the inner maximizer is allowed.
    Adversary,
}

/// PGD with five steps in the l-infinity ball of 8/255 of the pixel box.
impl Default for InnerConfig {
    fn default() -> Self {
        InnerConfig {
            kind: InnerKind::Pgd,
            norm: Norm::Linf,
            epsilon: 8.0 / 255.0,
            steps: None,
            step_size: None,
            restarts: 1,
            start: Start::Random,
            bounds: Some((0.0, 1.0)),
        }
    }
}

/// Why a [`RegularizerConfig`] was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RegularizerError {
    /// The inner attack starts at the clean input, where the gradient of a displacement is zero.
    #[error(
        "regularizer: inner.start = \"clean\" would never move, because the gradient of a displacement \
         is exactly zero where nothing is displaced; use start = \"random\""
    )]
    ZeroGradientStart,
    /// A scale control on a divergence that has its own.
    #[error(
        "regularizer: divergence = {divergence:?} has a scale of its own, so that scale = {scale:?} would \
         control it twice; remove scale, or use a plain divergence"
    )]
    ScaledTwice {
        /// The divergence.
        divergence: Divergence,
        /// The control.
        scale: Scale,
    },
    /// A scale of noise without `sigma`, or `sigma` without it.
    #[error(
        "regularizer: scale = \"noise\" or \"relative-noise\" and sigma go together; give both, or neither"
    )]
    NoiseWithoutSigma,
    /// FGSM with a number of steps.
    #[error(
        "regularizer: inner.kind = \"fgsm\" takes one step, not {0}; remove inner.steps or use kind = \"pgd\""
    )]
    FgsmSteps(usize),
    /// Settings of an attack where another one serves.
    #[error(
        "regularizer: inner.kind = \"adversary\" takes the points of another attack, with its radius and steps; remove the \
         other keys of inner"
    )]
    SharedAttackSettings,
    /// A number out of its range.
    #[error("regularizer: {field} is {value}; {range}")]
    OutOfRange {
        /// The key in the file.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
}

impl InnerConfig {
    /// The number of steps, or of directions.
    pub fn steps(&self) -> usize {
        match self.kind {
            InnerKind::Pgd | InnerKind::Apgd => self.steps.unwrap_or(5),
            InnerKind::Fgsm => 1,
            InnerKind::Jacobian => self.steps.unwrap_or(1),
            InnerKind::Adversary => 0,
        }
    }

    /// The length of a step.
    pub fn step(&self) -> f64 {
        let usual = match self.kind {
            InnerKind::Pgd | InnerKind::Apgd | InnerKind::Jacobian => {
                2.5 * self.epsilon / self.steps() as f64
            }
            InnerKind::Fgsm => 1.25 * self.epsilon,
            InnerKind::Adversary => 0.0,
        };
        self.step_size.unwrap_or(usual)
    }
}

impl RegularizerConfig {
    /// Checks every field against its range and the others.
    pub(super) fn check(&self) -> Result<(), RegularizerError> {
        let inner = &self.inner;
        if inner.start == Start::Clean {
            return Err(RegularizerError::ZeroGradientStart);
        }
        let plain = InnerConfig { kind: InnerKind::Adversary, ..InnerConfig::default() };
        if inner.kind == InnerKind::Adversary && *inner != plain {
            return Err(RegularizerError::SharedAttackSettings);
        }
        match (inner.kind, inner.steps) {
            (InnerKind::Fgsm, Some(steps)) if steps != 1 => return Err(RegularizerError::FgsmSteps(steps)),
            (_, Some(0)) => return Err(out_of_range("inner.steps", 0.0, "take at least one")),
            _ if inner.restarts == 0 => return Err(out_of_range("inner.restarts", 0.0, "take at least one")),
            _ => {}
        }
        if let (InnerKind::Apgd, Some(size)) = (inner.kind, inner.step_size) {
            return Err(out_of_range("inner.step_size", size, "APGD finds its own; remove it"));
        }
        if self.scale != Scale::None && self.divergence.has_own_scale() {
            return Err(RegularizerError::ScaledTwice { divergence: self.divergence, scale: self.scale });
        }
        if matches!(self.scale, Scale::Noise | Scale::RelativeNoise) != self.sigma.is_some() {
            return Err(RegularizerError::NoiseWithoutSigma);
        }
        if let Some(sigma) = self.sigma.filter(|s| !(*s > 0.0 && s.is_finite())) {
            return Err(out_of_range("sigma", sigma, "it must be positive and finite"));
        }
        for (field, share) in [("ramp", self.ramp), ("weight_ramp", self.weight_ramp)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(out_of_range(field, share, "a share of training lies in [0, 1]"));
            }
        }
        let sizes =
            [("weight", self.weight), ("inner.epsilon", inner.epsilon), ("inner.step_size", inner.step())];
        for (field, value) in sizes {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(out_of_range(field, value, "it must be finite and not negative"));
            }
        }
        Ok(())
    }
}

fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

fn is_none(scale: &Scale) -> bool {
    *scale == Scale::None
}

fn out_of_range(field: &'static str, value: f64, range: &'static str) -> RegularizerError {
    RegularizerError::OutOfRange { field, value, range }
}
