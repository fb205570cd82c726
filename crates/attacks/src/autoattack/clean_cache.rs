//! Cache of the clean evaluation, for targeted FAB, whose runs all set out from the sample.

use crate::driver::bits;
use serde::{Deserialize, Serialize};

/// The logits of the sample and its gradients, one for each class aimed at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CleanCache {
    #[serde(with = "bits")]
    pub(crate) z: Vec<f64>,
    /// One after the other.
    #[serde(with = "bits")]
    gradients: Vec<f32>,
    /// Coordinates of each.
    width: usize,
}

impl CleanCache {
    pub(crate) fn new(z: &[f64], gradients: &[Vec<f32>]) -> Self {
        let width = gradients.first().map_or(0, Vec::len);
        CleanCache { z: z.to_vec(), gradients: gradients.concat(), width }
    }

    /// Whether it is of so many classes, classes aimed at and coordinates.
    pub(crate) fn fits(&self, classes: usize, targets: usize, width: usize) -> bool {
        self.z.len() == classes && self.width == width && self.gradients.len() == targets * width
    }

    /// The gradient for the class of a rank.
    pub(crate) fn gradient(&self, rank: usize) -> &[f32] {
        &self.gradients[rank * self.width..][..self.width]
    }
}
