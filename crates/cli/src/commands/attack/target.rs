//! Attack target: a classifier with the images that it is attacked on.

use tarrl_attacks::{Ball, Limits};
use tarrl_tensor::{Key, Tensor};

/// Encoder and head, and the images that they are attacked on.
pub(crate) struct Target<'a> {
    /// The ball around each image.
    pub(crate) ball: Ball,
    /// The label of each image.
    pub(crate) labels: &'a [u32],
    /// The number of classes.
    pub(crate) classes: usize,
    /// One key for the randomness of each image.
    pub(crate) keys: &'a [Key],
    /// Images to representations.
    pub(crate) encode: &'a dyn Fn(&Tensor) -> Tensor,
    /// Representations to logits.
    pub(crate) classify: &'a dyn Fn(&Tensor) -> Tensor,
    /// Images in memory at a time.
    pub(crate) batch: usize,
    /// When images leave a minimum-norm attack.
    pub(crate) limits: Limits,
}

impl Target<'_> {
    /// Images to logits.
    pub(crate) fn logits(&self, u: &Tensor) -> Tensor {
        (self.classify)(&(self.encode)(u))
    }

    /// The representations `(n, d)` of all images, computed in pieces of at most `batch`.
    pub(crate) fn representations(&self) -> Tensor {
        let (x, n) = (self.ball.center(), self.labels.len());
        let part = |from: usize| (self.encode)(&x.slice(0, from, self.batch.min(n - from))).detach();
        let parts: Vec<Tensor> = (0..n).step_by(self.batch).map(part).collect();
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
    }
}
