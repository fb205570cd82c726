//! The term that training adds: how far an attacker can move the representation.

use crate::divergence::Divergence;
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, Outcome, Pgd, Start, Threat, fraction, pgd};
use tarrl_tensor::{Key, Tensor};

/// `R = E max_{x' ∈ B(x)} D(f(x), f(x'))` as a loss term.
///
/// [`attack`](Regularizer::attack) finds the points, [`value`](Regularizer::value) is the term at them.
/// By the envelope theorem the gradient of the maximum is the gradient at the maximiser, held fixed:
/// `x'` is a constant, and nothing is differentiated through the attack. Both branches, `f(x)` and
/// `f(x')`, are: with a stop-gradient on the clean one the result would be the gradient of no function,
/// and can point uphill. An attack finds less than the maximum, so that the term is a lower bound of
/// `R`: training on it certifies nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RegularizerConfig", into = "RegularizerConfig")]
pub struct Regularizer {
    config: RegularizerConfig,
}

/// A regularizer as method files name it, before it is checked by [`Regularizer::new`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegularizerConfig {
    /// What is measured.
    pub divergence: Divergence,
    /// λ: the factor of the term in the loss; finite and not negative.
    pub weight: f64,
    /// The view that is the bound's `x`.
    pub anchor: Anchor,
    /// The attack that maximises.
    pub inner: InnerConfig,
    /// The share of training, in `[0, 1]`, over which ε (and the step) rises linearly from zero.
    pub ramp: f64,
}

/// The relative displacement at weight 1 around the clean sample, without a ramp.
impl Default for RegularizerConfig {
    fn default() -> Self {
        RegularizerConfig {
            divergence: Divergence::default(),
            weight: 1.0,
            anchor: Anchor::default(),
            inner: InnerConfig::default(),
            ramp: 0.0,
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

/// The inner maximiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InnerConfig {
    /// Many steps or one.
    pub kind: InnerKind,
    /// The norm of the ball.
    pub norm: Norm,
    /// ε: its radius, in pixels of `[0, 1]`.
    #[serde(with = "fraction")]
    pub epsilon: f64,
    /// Steps; 5 if absent. FGSM takes one and allows no other number here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// The length of a step; if absent `2.5 ε / steps`, and `1.25 ε` for FGSM (Wong et al. 2020).
    #[serde(with = "fraction::optional", skip_serializing_if = "Option::is_none")]
    pub step_size: Option<f64>,
    /// Independent ascents, of which each sample keeps its best; at least one.
    pub restarts: usize,
    /// Where the ascent begins; only random starts are accepted.
    pub start: Start,
    /// The least and largest value of a coordinate; `None` if inputs have no range.
    pub bounds: Option<(f64, f64)>,
}

/// How many steps the inner maximiser takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InnerKind {
    /// Projected gradient ascent.
    #[default]
    Pgd,
    /// One step from a random start.
    Fgsm,
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
    /// The inner attack begins at the clean input.
    #[error(
        "regularizer: inner.start = \"clean\" would never move, because the gradient of a displacement \
         is exactly zero where nothing is displaced; use start = \"random\""
    )]
    DeadStart,
    /// FGSM with a number of steps.
    #[error(
        "regularizer: inner.kind = \"fgsm\" takes one step, not {0}; remove inner.steps or use kind = \"pgd\""
    )]
    FgsmSteps(usize),
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

impl Regularizer {
    /// The regularizer of a configuration.
    ///
    /// # Errors
    /// If the inner attack begins at the clean input, where its gradient is zero, or a number is out
    /// of range; the message names the key and the remedy.
    pub fn new(config: RegularizerConfig) -> Result<Self, RegularizerError> {
        let inner = &config.inner;
        if inner.start == Start::Clean {
            return Err(RegularizerError::DeadStart);
        }
        match (inner.kind, inner.steps) {
            (InnerKind::Fgsm, Some(steps)) if steps != 1 => return Err(RegularizerError::FgsmSteps(steps)),
            (_, Some(0)) => return Err(out_of_range("inner.steps", 0.0, "take at least one")),
            _ if inner.restarts == 0 => return Err(out_of_range("inner.restarts", 0.0, "take at least one")),
            _ => {}
        }
        if !(0.0..=1.0).contains(&config.ramp) {
            return Err(out_of_range("ramp", config.ramp, "a share of training lies in [0, 1]"));
        }
        let sizes =
            [("weight", config.weight), ("inner.epsilon", inner.epsilon), ("inner.step_size", inner.step())];
        for (field, value) in sizes {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(out_of_range(field, value, "it must be finite and not negative"));
            }
        }
        Ok(Regularizer { config })
    }

    /// What it was made of.
    pub fn config(&self) -> &RegularizerConfig {
        &self.config
    }

    /// λ.
    pub fn weight(&self) -> f64 {
        self.config.weight
    }

    /// The share of ε to attack with when a share `progress` of training is done: 1 after the ramp.
    pub fn epsilon_scale(&self, progress: f64) -> f64 {
        if progress >= self.config.ramp { 1.0 } else { (progress / self.config.ramp).max(0.0) }
    }

    /// The attacked points `x'` `(n, …)`, constants, around the anchors `x` `(n, …)`, with one key per
    /// sample: see [`inner_maximum`](Regularizer::inner_maximum).
    ///
    /// # Panics
    /// As [`pgd`].
    #[track_caller]
    pub fn attack(
        &self,
        encoder: &dyn Fn(&Tensor) -> Tensor,
        x: &Tensor,
        epsilon_scale: f64,
        keys: &[Key],
    ) -> Tensor {
        self.inner_maximum(encoder, x, epsilon_scale, keys).best
    }

    /// The attack with its values and passes, at `epsilon_scale` times the radius and the step.
    ///
    /// The encoder, `(n, …)` to `(n, d)`, should be frozen and treat rows independently (batch
    /// normalisation in inference): one forward pass for the references, then one pass forward and
    /// back per step, in the input alone, and one forward for the last point.
    ///
    /// # Panics
    /// As [`pgd`].
    #[track_caller]
    pub fn inner_maximum(
        &self,
        encoder: &dyn Fn(&Tensor) -> Tensor,
        x: &Tensor,
        epsilon_scale: f64,
        keys: &[Key],
    ) -> Outcome {
        let inner = &self.config.inner;
        let x = x.detach();
        let z = encoder(&x).detach();
        let displacement = |u: &Tensor, rows: &[usize]| {
            // Nobody finishes early, so that the rows are always the whole batch.
            debug_assert_eq!(rows.len(), z.shape()[0]);
            self.config.divergence.inner(&z, &encoder(u))
        };
        let threat =
            Threat { bounds: inner.bounds, ..Threat::new(inner.norm, inner.epsilon * epsilon_scale) };
        let config = Pgd {
            steps: inner.steps(),
            step_size: inner.step() * epsilon_scale,
            restarts: inner.restarts,
            start: inner.start,
            // The displacement of the clean point is zero: it cannot win.
            include_clean: false,
            ..Pgd::default()
        };
        pgd(&x, &displacement, &threat, &config, keys)
    }

    /// The term at the attacked points, unweighted: the mean divergence of `z = f(x)` and
    /// `z_adv = f(x')`, both `(n, d)` and both differentiated.
    ///
    /// # Panics
    /// If the shapes differ or are not `(n, d)`.
    #[track_caller]
    pub fn value(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        self.config.divergence.mean(z, z_adv)
    }
}

impl InnerConfig {
    /// The number of steps.
    pub fn steps(&self) -> usize {
        match self.kind {
            InnerKind::Pgd => self.steps.unwrap_or(5),
            InnerKind::Fgsm => 1,
        }
    }

    /// The length of a step.
    pub fn step(&self) -> f64 {
        let usual = match self.kind {
            InnerKind::Pgd => 2.5 * self.epsilon / self.steps() as f64,
            InnerKind::Fgsm => 1.25 * self.epsilon,
        };
        self.step_size.unwrap_or(usual)
    }
}

impl TryFrom<RegularizerConfig> for Regularizer {
    type Error = RegularizerError;

    fn try_from(config: RegularizerConfig) -> Result<Self, RegularizerError> {
        Regularizer::new(config)
    }
}

impl From<Regularizer> for RegularizerConfig {
    fn from(regularizer: Regularizer) -> Self {
        regularizer.config
    }
}

fn out_of_range(field: &'static str, value: f64, range: &'static str) -> RegularizerError {
    RegularizerError::OutOfRange { field, value, range }
}
