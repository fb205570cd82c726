//! Classifiers as the target: losses of logits, misclassification, random models.

mod attack;
mod eot;
pub(crate) mod losses;

pub(crate) use attack::verdict;
pub use attack::{ClassifierOutcome, TargetSuccess, attack_classifier, classify, classify_towards, verdicts};
pub use eot::{Confirmation, Eot, RandomLogits};
pub use losses::{LabelLoss, TargetLoss, margins};
