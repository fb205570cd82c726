//! What stands in for labels: a teacher's representations, clusters of them, and invariance.

use super::adversary::check_attack;
use serde::{Deserialize, Serialize};
use tarrl_bound::{Anchor, InnerConfig};

/// Learning the representations of a teacher, and keeping still under attack: on images `x` with neighbors `x'`,
/// `weight · mean [−cos(f(x), T(x)) − consistency · cos(f(x'), f(x))]` (Zhang et al. 2022, equation 4). The attack
/// takes `f(x')` away from `T(x)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distillation {
    /// The view that is learned from and attacked.
    pub view: Anchor,
    /// The factor of the term.
    pub weight: f64,
    /// k: the factor of standing still in it; 2 in the paper.
    pub consistency: f64,
    /// Threat model and steps.
    pub attack: InnerConfig,
}

/// Classes that nobody named: clusters of the teacher's representations of the training images, several sets of them.
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
    pub(super) fn check(&self) -> Result<(), String> {
        factor("distillation.weight", self.weight)?;
        factor("distillation.consistency", self.consistency)?;
        check_attack("distillation.attack", &self.attack)
    }
}

impl PseudoLabels {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.clusters.is_empty() || self.clusters.iter().any(|&k| k < 2) {
            return Err(
                "pseudo_labels.clusters must name one set at least, each of two clusters at least".into()
            );
        }
        factor("pseudo_labels.weight", self.weight)?;
        check_attack("pseudo_labels.attack", &self.attack)
    }
}

impl Invariance {
    pub(super) fn check(&self) -> Result<(), String> {
        factor("invariance.standard", self.standard)?;
        factor("invariance.adversarial", self.adversarial)?;
        if self.temperature > 0.0 && self.temperature.is_finite() {
            return Ok(());
        }
        Err(format!(
            "invariance.temperature is {}; it divides similarities and must be positive",
            self.temperature
        ))
    }
}

fn factor(key: &str, value: f64) -> Result<(), String> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(format!("{key} is {value}; it must be finite and not negative"))
}
