//! Optimizer settings: SGD, LARS and AdamW.

use serde::{Deserialize, Serialize};

/// Which optimizer, with its constants. In a file: `{ kind = "adamw", lr = 2e-3 }`.
///
/// Biases and the scales and shifts of normalizations are never decayed, and LARS moves them by plain
/// momentum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Layer-wise adaptive rates, for large batches.
    Lars(Lars),
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW(AdamW),
}

/// `d = g + wd·p`, `m ← μ·m + d`, `p ← p − lr·m`; with Nesterov's variant, `p ← p − lr·(d + μ·m)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// Peak learning rate for the batch size that is used.
    pub lr: f64,
    /// μ
    pub momentum: f64,
    /// Whether the step looks ahead along the momentum.
    pub nesterov: bool,
    /// wd
    pub weight_decay: f64,
}

/// A step of the length of the parameter (You et al. 2017), in one of the three forms in use.
///
/// In every form a parameter of norm 0, and one whose gradient is 0, has the ratio 1: a weight that begins at zero makes
/// its first step at the whole rate `lr`, without the factor η, as in lightly and timm. With the usual η that step is a
/// thousand times its neighbors'; begin such weights at small random values, or train them without LARS.
/// The ratio does not depend on there being decay: with `weight_decay = 0` weights keep it, where lightly and timm fall
/// back to plain momentum. The README of this crate compares the steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lars {
    /// Peak learning rate for the batch size that is used.
    pub lr: f64,
    /// μ
    pub momentum: f64,
    /// wd
    pub weight_decay: f64,
    /// η: the length of a step relative to the parameter.
    pub trust: f64,
    /// Where the ratio of lengths enters.
    pub form: LarsForm,
}

/// The forms of [`Lars`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LarsForm {
    /// `r = min(η‖p‖ / (‖g‖ + wd·‖p‖ + 1e-8) / lr, 1)`, `d = r·(g + wd·p)`: never faster than SGD. Where a length is 0,
    /// `r = min(1 / lr, 1)`: all of `d` for rates up to 1.
    #[default]
    Clipped,
    /// `r = η‖p‖ / (‖g‖ + wd·‖p‖ + 1e-8)`, `d = r·(g + wd·p)`; `r = 1` where a length is 0.
    Apex,
    /// `d = g + wd·p`, scaled by `η‖p‖ / ‖d‖`, or by 1 if a length is 0: Barlow Twins, VICReg, DINO.
    Official,
}

/// `m ← β₁m + (1 − β₁)g`, `v ← β₂v + (1 − β₂)g²`,
/// `p ← (1 − lr·wd)·p − lr·m̂ / (√v̂ + eps)` with the usual corrections of the start
/// (Loshchilov & Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Peak learning rate for the batch size that is used.
    pub lr: f64,
    /// β₁ and β₂
    pub betas: [f64; 2],
    /// Keeps the division finite.
    pub eps: f64,
    /// wd
    pub weight_decay: f64,
}

impl Default for Sgd {
    /// The values of SimCLR on CIFAR at a batch of 256.
    fn default() -> Self {
        Sgd { lr: 0.06, momentum: 0.9, nesterov: false, weight_decay: 5e-4 }
    }
}

impl Default for Lars {
    /// The values that solo-learn uses for NNCLR on CIFAR at a batch of 256; for SimCLR it has a `weight_decay` of 1e-4.
    fn default() -> Self {
        Lars { lr: 0.4, momentum: 0.9, weight_decay: 1e-5, trust: 0.02, form: LarsForm::Clipped }
    }
}

impl Default for AdamW {
    /// What trains a small encoder for a few epochs.
    fn default() -> Self {
        AdamW { lr: 2e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-4 }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig::AdamW(AdamW::default())
    }
}

impl OptimizerConfig {
    /// The peak learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            OptimizerConfig::Sgd(c) => c.lr,
            OptimizerConfig::Lars(c) => c.lr,
            OptimizerConfig::AdamW(c) => c.lr,
        }
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// The first setting that is out of range, and what would do.
    pub fn check(&self) -> Result<(), OptimizerError> {
        let (decay, fractions) = match self {
            OptimizerConfig::Sgd(c) => (c.weight_decay, vec![("momentum", c.momentum)]),
            OptimizerConfig::Lars(c) => (c.weight_decay, vec![("momentum", c.momentum), ("trust", c.trust)]),
            OptimizerConfig::AdamW(c) => {
                (c.weight_decay, vec![("betas[0]", c.betas[0]), ("betas[1]", c.betas[1]), ("eps", c.eps)])
            }
        };
        if !(self.lr() > 0.0 && self.lr().is_finite()) {
            return Err(OptimizerError::LearningRate { lr: self.lr() });
        }
        if !(decay >= 0.0 && decay.is_finite()) {
            return Err(OptimizerError::WeightDecay { weight_decay: decay });
        }
        match fractions.into_iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            Some((name, value)) => Err(OptimizerError::NotAFraction { name, value }),
            None => Ok(()),
        }
    }

    /// The names of the tensors that it keeps for each parameter.
    pub(super) fn memory(&self) -> &'static [&'static str] {
        match self {
            OptimizerConfig::Sgd(_) | OptimizerConfig::Lars(_) => &["momentum"],
            OptimizerConfig::AdamW(_) => &["first", "second"],
        }
    }
}

/// A constant of an optimizer that is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// The learning rate is not positive and finite.
    #[error("optimizer.lr = {lr} has to be a positive number")]
    LearningRate {
        /// Its value.
        lr: f64,
    },
    /// The weight decay is negative or not finite.
    #[error("optimizer.weight_decay = {weight_decay} has to be 0 or more")]
    WeightDecay {
        /// Its value.
        weight_decay: f64,
    },
    /// A constant lies outside `[0, 1)`.
    #[error("optimizer.{name} = {value} has to lie in [0, 1)")]
    NotAFraction {
        /// The constant, as a file names it.
        name: &'static str,
        /// Its value.
        value: f64,
    },
}

impl Sgd {
    /// With weight decay only for parameters that decay.
    pub(super) fn decaying(self, decays: bool) -> Self {
        Sgd { weight_decay: if decays { self.weight_decay } else { 0.0 }, ..self }
    }
}

impl AdamW {
    /// With weight decay only for parameters that decay.
    pub(super) fn decaying(self, decays: bool) -> Self {
        AdamW { weight_decay: if decays { self.weight_decay } else { 0.0 }, ..self }
    }
}
