//! The embeddings of a batch, as a loss sees them.

use crate::rows;
use crate::state::LossState;
use std::any::Any;
use tarrl_tensor::{Array, Key, Tensor};

/// The embeddings of one batch and what goes with them; [`Needs`](crate::Needs) says which parts a loss reads.
///
/// Row `i` of every view comes from image `i`.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings<'a> {
    /// Of each view `(n, d)`: what receives gradient. Outputs of the predictor if one is needed, scores of prototypes,
    /// logits of classes; else outputs of the projector.
    pub online: &'a [Tensor],
    /// Of each view `(n, d)`: targets, which receive no gradient.
    pub targets: &'a [Tensor],
    /// U32 `(n)`: the label of each image.
    pub labels: Option<&'a Array>,
    /// The state of the loss.
    pub state: Option<&'a dyn LossState>,
    /// The random key of the step.
    pub key: Key,
}

/// Nothing, and a constant key.
impl Default for Embeddings<'_> {
    fn default() -> Self {
        Embeddings { online: &[], targets: &[], labels: None, state: None, key: Key::new(0) }
    }
}

impl<'a> Embeddings<'a> {
    /// The online embeddings, by reference.
    pub(crate) fn views(&self) -> Vec<&'a Tensor> {
        self.online.iter().collect()
    }

    /// The mean of `loss` over all pairs of views i < j.
    #[track_caller]
    pub(crate) fn mean_over_pairs(&self, loss: &dyn Fn(usize, usize) -> Tensor) -> Tensor {
        let views = self.online.len();
        assert!(views > 1, "an objective of pairs of views: {views} views");
        let pairs = (0..views).flat_map(|i| (i + 1..views).map(move |j| (i, j)));
        rows::mean(pairs.map(|(i, j)| loss(i, j)).collect())
    }

    /// The target `(n, d)` of a view.
    #[track_caller]
    pub(crate) fn target(&self, view: usize) -> &'a Tensor {
        self.targets.get(view).unwrap_or_else(|| panic!("an objective with targets: none of view {view}"))
    }

    /// U32 `(n)`
    #[track_caller]
    pub(crate) fn labels(&self) -> &'a Array {
        self.labels.expect("an objective of labels: there are none")
    }

    /// The state, which the loss that reads it created. `missing` is the panic's message.
    #[track_caller]
    pub(crate) fn state<T: LossState>(&self, missing: &str) -> &'a T {
        let state = self.state.and_then(|state| (state as &dyn Any).downcast_ref());
        state.unwrap_or_else(|| panic!("{missing}"))
    }
}
