//! Auxiliary terms of a method: distillation, pseudo-labels from clusters, and the invariance of ACL-AIR.

use super::adversary::check_attack;
use super::error::{MethodError, not_negative};
use serde::{Deserialize, Serialize};
use tarrl_bound::{Anchor, InnerConfig};

/// Distillation of a teacher's representations with consistency under attack: on images `x` with neighbors `x'`,
/// `weight · mean [−cos(f(x), T(x)) − consistency · cos(f(x'), f(x))]` (Zhang et al. 2022, equation 4). The attack
/// takes `f(x')` away from `T(x)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distillation {
    /// The view that is learned from and attacked.
    pub view: Anchor,
    /// The factor of the term.
    pub weight: f64,
    /// k: the factor of consistency under attack; 2 in the paper.
    pub consistency: f64,
    /// Threat model and steps.
    pub attack: InnerConfig,
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

fn one() -> f64 {
    1.0
}

fn weak() -> Anchor {
    Anchor::Weak
}

impl Default for Distillation {
    fn default() -> Self {
        Distillation { view: Anchor::Weak, weight: 1.0, consistency: 2.0, attack: InnerConfig::default() }
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
