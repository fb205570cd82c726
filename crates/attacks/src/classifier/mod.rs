//! Classifiers as the target: losses of logits, misclassification, random models.

mod attack;
mod eot;
mod gama;
pub(crate) mod losses;
mod malt;

pub(crate) use attack::verdict;
pub use attack::{ClassifierOutcome, TargetSuccess, attack_classifier, classify, classify_towards, verdicts};
pub use eot::{Confirmation, Eot, RandomLogits};
pub use gama::{Gama, gama_pgd};
pub use losses::{LabelLoss, TargetLoss, margins};
pub use malt::malt_targets;
