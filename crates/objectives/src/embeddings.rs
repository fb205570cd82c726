//! What a step shows to its objective.

use crate::{Center, Queue};
use tarrl_tensor::{Array, Key, Tensor};

/// The embeddings of one step and what goes with them; which parts an objective reads is told by its
/// [`Needs`](crate::Needs).
///
/// Row `i` of every view comes from image `i`.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings<'a> {
    /// Of each view `(n, d)`: what receives gradient. Outputs of the predictor if one is needed, scores of prototypes,
    /// logits of classes; else of the projector.
    pub online: &'a [Tensor],
    /// Of each view `(n, d)`: targets, constants to the objective.
    pub targets: &'a [Tensor],
    /// U32 `(n)`: the label of each image.
    pub labels: Option<&'a Array>,
    /// Old keys.
    pub queue: Option<&'a Queue>,
    /// The center of the teacher's logits.
    pub center: Option<&'a Center>,
    /// Of the step.
    pub key: Key,
}

/// Nothing, and a constant key.
impl Default for Embeddings<'_> {
    fn default() -> Self {
        Embeddings { online: &[], targets: &[], labels: None, queue: None, center: None, key: Key::new(0) }
    }
}
