//! What the sample itself has told a search that sets out from it more than once.

use crate::suite::bits;
use serde::{Deserialize, Serialize};

/// The logits of the sample and its gradients, one for each class aimed at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Home {
    #[serde(with = "bits")]
    pub(crate) z: Vec<f64>,
    /// One behind the other.
    #[serde(with = "bits")]
    gradients: Vec<f32>,
    /// Coordinates of each.
    width: usize,
}

impl Home {
    pub(crate) fn new(z: &[f64], gradients: &[Vec<f32>]) -> Self {
        let width = gradients.first().map_or(0, Vec::len);
        Home { z: z.to_vec(), gradients: gradients.concat(), width }
    }

    /// That of the class of a rank.
    pub(crate) fn gradient(&self, rank: usize) -> &[f32] {
        &self.gradients[rank * self.width..][..self.width]
    }
}
