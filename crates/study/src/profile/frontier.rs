//! Frontier settings: over which heads clean and robust accuracy are traded, and where methods are compared.

use serde::{Deserialize, Serialize};

/// How the frontier of clean against robust accuracy is measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Frontier {
    /// The clean accuracy at which methods are compared, in (0, 1).
    pub clean: f64,
    /// Test images, balanced over the classes, that every head is attacked on; clean accuracy is that of all test images.
    pub images: usize,
    /// Weights of the squared norm of the heads, falling.
    #[serde(default = "weights")]
    pub l2: Vec<f64>,
    /// Whether what AutoAttack leaves of the matched head is attacked by stronger single attacks too.
    #[serde(default, rename = "best-known", skip_serializing_if = "std::ops::Not::not")]
    pub best_known: bool,
}

/// Seven weights from 1e-1 to 1e-4, about half a decade apart.
fn weights() -> Vec<f64> {
    vec![1e-1, 3.2e-2, 1e-2, 3.2e-3, 1e-3, 3.2e-4, 1e-4]
}

impl Frontier {
    /// What no type can rule out.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(self.clean > 0.0 && self.clean < 1.0) {
            return Err(format!(
                "`frontier.clean` is {}; give a clean accuracy between 0 and 1, such as 0.79",
                self.clean
            ));
        }
        if self.images == 0 {
            return Err("`frontier.images` is 0; give the number of test images to attack".to_owned());
        }
        let fall = self.l2.is_sorted_by(|a, b| a > b);
        if self.l2.len() < 2 || !fall || self.l2.iter().any(|l2| !l2.is_finite() || *l2 <= 0.0) {
            return Err("`frontier.l2` has to fall and stay above 0, with two weights at least".to_owned());
        }
        Ok(())
    }
}

/// The head that AutoAttack attacks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackedHead {
    /// The head whose regularization is chosen on the validation part of the training images.
    #[default]
    Selected,
    /// The head whose clean accuracy is the one that the frontier is read at.
    Matched,
}
