//! Robust accuracy results: the outcome of every image under attack, and example images.

use serde::{Deserialize, Serialize};

/// The accuracy of one encoder and head at one ε, sample by sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RobustAccuracy {
    /// Radius of the ball, in pixels.
    pub epsilon: f64,
    /// The outcome of each image.
    pub samples: Vec<SampleOutcome>,
    /// The first images and their attacked forms.
    pub examples: Vec<Example>,
}

/// The outcome of one image under attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleOutcome {
    /// Whether the clean image is misclassified.
    pub wrong: bool,
    /// Whether a point of the ball is known to be misclassified; true if the clean image is.
    pub broken: bool,
    /// The smallest margin `z_y − max_{i≠y} z_i` seen in the ball.
    pub margin: f64,
    /// The largest loss seen; for a broken sample the search ended at the first success.
    pub loss: f64,
    /// Forward passes so far.
    pub forward: u32,
    /// Backward passes so far.
    pub backward: u32,
}

/// In the place of a prediction where a logit is not finite: no class.
pub(crate) const NO_CLASS: u32 = u32::MAX;

/// An image before and after the attack, for figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Position in the sample.
    pub index: usize,
    /// The label.
    pub label: u32,
    /// The prediction for the clean image; `u32::MAX` if a logit is not finite.
    #[serde(rename = "said")]
    pub prediction: u32,
    /// The prediction for the attacked image.
    #[serde(rename = "said_attacked")]
    pub attacked_prediction: u32,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// The clean pixels, in [0, 1], row-major.
    pub clean: Vec<f32>,
    /// The attacked pixels: the point of the smallest margin seen.
    pub attacked: Vec<f32>,
}

impl RobustAccuracy {
    /// Clean images that are classified correctly.
    pub fn clean_correct(&self) -> usize {
        self.samples.iter().filter(|s| !s.wrong).count()
    }

    /// Images that no attack broke.
    pub fn robust_correct(&self) -> usize {
        self.samples.iter().filter(|s| !s.broken).count()
    }

    /// Share of the clean images that are classified correctly.
    pub fn clean_accuracy(&self) -> f64 {
        self.clean_correct() as f64 / self.samples.len() as f64
    }

    /// Share of the images that no attack broke: an upper bound of the true robust accuracy.
    pub fn robust_accuracy(&self) -> f64 {
        self.robust_correct() as f64 / self.samples.len() as f64
    }
}
