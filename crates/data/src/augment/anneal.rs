//! How strong augmentation is as training goes on.

use serde::{Deserialize, Serialize};

/// A strength that falls in steps, from 1 in the first epoch towards 0 (Luo et al. 2023, DynACL, section 4.1): strong views
/// teach features, weak ones robustness.
///
/// Epochs are counted from 0. With `every = 50` and 1000 epochs: 1, 0.95, 0.9, …, 0.05. Goes into
/// [`Recipe::at_strength`](super::Recipe::at_strength).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Annealing {
    /// Epochs from step to step.
    pub every: usize,
}

/// Fifty epochs, of a thousand in the paper.
impl Default for Annealing {
    fn default() -> Self {
        Annealing { every: 50 }
    }
}

impl Annealing {
    /// The strength in an epoch out of so many: `1 − ⌊epoch/every⌋·every/epochs`.
    ///
    /// # Panics
    /// If the epoch is beyond the last, or `every` is 0.
    #[track_caller]
    pub fn strength(&self, epoch: usize, epochs: usize) -> f64 {
        1.0 - self.progress(epoch, epochs)
    }

    /// The share of training that lies behind the last step; 2/3 of it is what DynACL takes from the clean loss and gives
    /// to the attacked one.
    ///
    /// # Panics
    /// As [`strength`](Annealing::strength).
    #[track_caller]
    pub fn progress(&self, epoch: usize, epochs: usize) -> f64 {
        assert!(
            epoch < epochs && self.every > 0,
            "Annealing: epoch {epoch} of {epochs} in steps of {}",
            self.every
        );
        (epoch / self.every * self.every) as f64 / epochs as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_epochs_have_twenty_strengths() {
        let annealing = Annealing::default();
        for (epoch, strength) in [(0, 1.0), (49, 1.0), (50, 0.95), (99, 0.95), (500, 0.5), (999, 0.05)] {
            assert!((annealing.strength(epoch, 1000) - strength).abs() < 1e-12, "epoch {epoch}");
        }
        let mut all: Vec<f64> = (0..1000).map(|epoch| annealing.strength(epoch, 1000)).collect();
        assert!(all.is_sorted_by(|a, b| a >= b));
        all.dedup();
        assert_eq!(all.len(), 20);
        assert!((annealing.progress(999, 1000) * 2.0 / 3.0 - 0.95 * 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    #[should_panic(expected = "epoch 3 of 3")]
    fn beyond_the_end_there_is_no_strength() {
        Annealing::default().strength(3, 3);
    }
}
