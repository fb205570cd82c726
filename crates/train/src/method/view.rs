//! Augmentation strength over training, and the views that anchors name.

use super::error::MethodError;
use serde::{Deserialize, Serialize};
use tarrl_bound::Anchor;
use tarrl_data::augment::View;

/// A schedule of augmentation strength: `start` in the first of `stages` parts of training, then lower in equal steps, one
/// more of which would reach `end` (Luo et al. 2023, section 4.1).
///
/// Strength scales what a strong view does to the image (crop, jitter, grayscale, blur); mirror images stay as likely.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Strength {
    /// Of the first epoch, in `[0, 1]`.
    pub start: f64,
    /// The strength after another step, in `[0, 1]`; the same as `start` for a constant strength.
    pub end: f64,
    /// Parts of training of constant strength.
    pub stages: usize,
}

impl Default for Strength {
    fn default() -> Self {
        Strength { start: 1.0, end: 1.0, stages: 1 }
    }
}

impl Strength {
    /// The share of the way from `start` to `end` in `epoch` of `epochs`, both from 0, in `[0, 1)`: constant within a stage.
    pub fn share(&self, epoch: usize, epochs: usize) -> f64 {
        (epoch * self.stages / epochs.max(1)) as f64 / self.stages as f64
    }

    /// The strength in `epoch` of `epochs`.
    pub fn at(&self, epoch: usize, epochs: usize) -> f64 {
        self.start + (self.end - self.start) * self.share(epoch, epochs)
    }

    pub(super) fn check(&self) -> Result<(), MethodError> {
        for (key, value) in [("start", self.start), ("end", self.end)] {
            if !(0.0..=1.0).contains(&value) {
                let key = format!("strength.{key}");
                return Err(MethodError::out_of_range(key, value, "a strength lies in [0, 1]"));
            }
        }
        if self.stages == 0 {
            return Err(MethodError::out_of_range("strength.stages", 0.0, "training has at least 1"));
        }
        Ok(())
    }
}

/// `view` at `strength`, of images `(h, w, c)`: weak and clean views have one strength only.
pub(crate) fn at_strength(view: &View, strength: f64, shape: (usize, usize, usize)) -> View {
    match view {
        View::Strong | View::Custom(_) if strength != 1.0 => {
            View::Custom(view.recipe(shape).at_strength(strength))
        }
        _ => view.clone(),
    }
}

/// The view that an anchor is.
pub(crate) fn anchored(anchor: Anchor) -> View {
    match anchor {
        Anchor::Strong => View::Strong,
        Anchor::Weak => View::Weak,
        Anchor::Clean => View::Clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_falls_in_equal_steps() {
        let strength = Strength { start: 1.0, end: 0.0, stages: 4 };
        let found: Vec<f64> = (0..8).map(|epoch| strength.at(epoch, 8)).collect();
        assert_eq!(found, [1.0, 1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]);
        // The published schedule: s = 1 − (epoch − 1)/E refreshed every 50 of 1000 epochs.
        let published = Strength { stages: 20, ..strength };
        for epoch in [0, 49, 50, 499, 999] {
            let expected = 1.0 - (epoch / 50 * 50) as f64 / 1000.0;
            assert!((published.at(epoch, 1000) - expected).abs() < 1e-12, "{epoch}");
        }
        assert_eq!(Strength::default().at(3, 8), 1.0);
    }

    #[test]
    fn strength_weakens_the_crop_and_leaves_the_flip() {
        let shape = (28, 28, 1);
        for view in [View::Strong, View::Weak, View::HighFrequency, View::Clean] {
            assert_eq!(at_strength(&view, 1.0, shape), view);
        }
        assert_eq!(at_strength(&View::Weak, 0.5, shape), View::Weak);
        let full = View::Strong.recipe(shape);
        let none = at_strength(&View::Strong, 0.0, shape).recipe(shape);
        assert_eq!((none.flip, none.jitter.brightness), (full.flip, 0.0));
    }
}
