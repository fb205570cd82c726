//! Settings of an attack on a classifier.

use serde::{Deserialize, Serialize};
use tarrl_attacks::{LabelLoss, Pgd, Threat};

/// Settings of [`robust_accuracy`](crate::robust_accuracy).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RobustConfig {
    /// The ball around each image.
    pub threat: Threat,
    /// The attack. A sample leaves it at its first success, whatever `early_stop` says, and the clean
    /// image is judged apart.
    pub pgd: Pgd,
    /// The loss that it maximizes.
    pub loss: LabelLoss,
    /// Images in memory at a time; changes no result.
    pub batch: usize,
    /// The first images of the sample whose attacked form is returned.
    pub keep: usize,
}

impl Default for RobustConfig {
    /// PGD-20 with two restarts on the cross-entropy, within 8/255 in the l-infinity norm.
    fn default() -> Self {
        let pgd = Pgd { steps: 20, restarts: 2, ..Pgd::default() };
        RobustConfig { threat: Threat::default(), pgd, loss: LabelLoss::CrossEntropy, batch: 256, keep: 8 }
    }
}
