//! Auxiliary terms of a method: distillation, pseudo-labels from clusters, the invariance of ACL-AIR, spectral norms.

use super::adversary::check_attack;
use super::error::{MethodError, not_negative};
use serde::{Deserialize, Serialize};
use tarrl_bound::{Anchor, InnerConfig};

/// Distillation of a teacher's representations with consistency under attack: on images `x` with neighbors `x'`, the mean of
/// a [loss](DistillationLoss) times `weight`. The attack takes `f(x')` away from `T(x)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distillation {
    /// The view that is learned from and attacked.
    pub view: Anchor,
    /// The view that the teacher sees; the same image as `view` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_view: Option<Anchor>,
    /// w: the share of the loss that is taken of projections, 0 for none (ProFeAT, Addepalli et al. 2024):
    /// `(1 − w) L(f) + w L(g∘f)`, with a projector g in the form of `projector`, drawn at random and never trained, of both
    /// student and teacher. The attack leads f(x') away from f(x) and g(f(x')) away from g(T(x)), in equal parts, and clean and
    /// attacked images go through the student one after the other, as in its authors' code.
    #[serde(skip_serializing_if = "is_zero")]
    pub projected: f64,
    /// What is learned.
    #[serde(skip_serializing_if = "DistillationLoss::is_cosine")]
    pub loss: DistillationLoss,
    /// The factor of the term.
    pub weight: f64,
    /// k: the factor of the second part of the loss.
    pub consistency: f64,
    /// Threat model and steps.
    pub attack: InnerConfig,
}

/// What a [`Distillation`] minimizes for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DistillationLoss {
    /// `−cos(f(x), T(x)) − k cos(f(x'), f(x))`, k = 2 in the paper (DeACL, Zhang et al. 2022, equation 4).
    #[default]
    Cosine,
    /// `‖f(x') − T(x)‖² + k ‖f(x) − T(x)‖²`, k = 0 in the paper (FARE, Schlarmann et al. 2024).
    SquaredDistance,
}

impl DistillationLoss {
    fn is_cosine(&self) -> bool {
        *self == Self::Cosine
    }
}

/// Pseudo-labels: clusters of the teacher's representations of the training images, several sets of them.
/// One linear classifier for each set learns them from attacked images; the attack ascends their mean cross-entropy
/// (Fan et al. 2021, section 4.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PseudoLabels {
    /// Clusters of each set.
    pub clusters: Vec<usize>,
    /// The factor of the mean cross-entropy.
    #[serde(default = "one")]
    pub weight: f64,
    /// The view that is attacked.
    #[serde(default = "weak")]
    pub view: Anchor,
    /// Threat model and steps.
    #[serde(default)]
    pub attack: InnerConfig,
}

/// The invariant regularizers of ACL-AIR on embeddings (Xu et al. 2023, as their code has them).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Invariance {
    /// The factor of the standard term: of both views and the clean image.
    pub standard: f64,
    /// The factor of the adversarial term: of attacked views, views and the clean image.
    pub adversarial: f64,
    /// τ: divides the cosine similarities.
    pub temperature: f64,
}

/// The term `weight · ½ Σ σ²` over the spectral norms σ of the encoder's convolutions and matrices, each with the scale of the
/// batch norm behind it ([`Encoder::spectral_norms`](tarrl_encoders::Encoder::spectral_norms)).
///
/// ```
/// let method: tarrl_train::Method = toml::from_str(r#"
///     title = "SimCLR with a penalty on spectral norms"
///     views = ["strong", "strong"]
///     objective = { kind = "nt-xent" }
///     spectral_norm = { weight = 0.01, iterations = 5 }
/// "#).unwrap();
/// assert!(method.check().is_ok());
/// // Power iterations take no pass of images: a step costs what it costs without the term, and a little.
/// assert_eq!(method.passes(), [2.0, 2.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpectralNorm {
    /// The factor of the term.
    pub weight: f64,
    /// Steps of the power iteration, from another random start in every step of the training.
    pub iterations: usize,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn one() -> f64 {
    1.0
}

fn weak() -> Anchor {
    Anchor::Weak
}

impl Default for Distillation {
    fn default() -> Self {
        Distillation {
            view: Anchor::Weak,
            teacher_view: None,
            projected: 0.0,
            loss: DistillationLoss::Cosine,
            weight: 1.0,
            consistency: 2.0,
            attack: InnerConfig::default(),
        }
    }
}

impl Default for SpectralNorm {
    fn default() -> Self {
        SpectralNorm { weight: 0.01, iterations: 5 }
    }
}

impl Default for Invariance {
    fn default() -> Self {
        Invariance { standard: 0.5, adversarial: 0.5, temperature: 0.5 }
    }
}

impl Distillation {
    pub(super) fn check(&self) -> Result<(), MethodError> {
        not_negative("distillation.weight", self.weight)?;
        not_negative("distillation.consistency", self.consistency)?;
        if !(0.0..=1.0).contains(&self.projected) {
            let requirement = "a share of the loss lies in [0, 1]";
            return Err(MethodError::out_of_range("distillation.projected", self.projected, requirement));
        }
        if self.projected > 0.0 && self.loss != DistillationLoss::Cosine {
            return Err(MethodError::ProjectedDistance);
        }
        check_attack("distillation.attack", &self.attack)
    }
}

impl PseudoLabels {
    pub(super) fn check(&self) -> Result<(), MethodError> {
        if self.clusters.is_empty() || self.clusters.iter().any(|&k| k < 2) {
            return Err(MethodError::TooFewClusters);
        }
        not_negative("pseudo_labels.weight", self.weight)?;
        check_attack("pseudo_labels.attack", &self.attack)
    }
}

impl SpectralNorm {
    pub(super) fn check(&self) -> Result<(), MethodError> {
        not_negative("spectral_norm.weight", self.weight)
    }
}

impl Invariance {
    pub(super) fn check(&self) -> Result<(), MethodError> {
        not_negative("invariance.standard", self.standard)?;
        not_negative("invariance.adversarial", self.adversarial)?;
        if self.temperature > 0.0 && self.temperature.is_finite() {
            return Ok(());
        }
        let requirement = "it divides similarities and must be positive";
        Err(MethodError::out_of_range("invariance.temperature", self.temperature, requirement))
    }
}
