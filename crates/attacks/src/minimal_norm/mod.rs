//! Minimal-norm attacks: Carlini-Wagner, DeepFool and HopSkipJump find the nearest misclassified point.

mod carlini_wagner;
mod deepfool;
mod hop_skip_jump;
mod minimal_adversarial;

pub use carlini_wagner::{CarliniWagner, CarliniWagnerRun};
pub use deepfool::{DeepFool, DeepFoolRun};
pub use hop_skip_jump::{HopSkipJump, HopSkipJumpRun};
pub use minimal_adversarial::{Classifier, MinimalAdversarial};
