//! What an objective says of some views.

use super::Work;
use crate::model::Embedded;
use tarrl_objectives::Embeddings;
use tarrl_tensor::Tensor;

/// A view as a comparison sees it.
#[derive(Clone)]
pub(super) struct Side {
    /// What the networks in training, or under attack, say of it.
    pub(super) own: Embedded,
    /// What the momentum network says of the view that it was made of, if there is such a network.
    pub(super) slow: Option<Tensor>,
}

/// The objective on `sides`, in their order: a scalar.
#[track_caller]
pub(super) fn compare(work: &Work<'_>, sides: &[&Side]) -> Tensor {
    let Work { method, input, .. } = work;
    let online: Vec<Tensor> = sides.iter().filter_map(|side| side.own.online.clone()).collect();
    let target = |side: &&Side| side.slow.clone().or_else(|| side.own.target.as_ref().map(Tensor::detach));
    let targets: Vec<Tensor> = sides.iter().filter_map(target).collect();
    method.objective.as_ref().expect("a term of an objective").of(&Embeddings {
        online: &online,
        targets: &targets,
        labels: Some(input.labels),
        queue: input.memory.queue.as_ref(),
        center: input.memory.center.as_ref(),
        key: input.key,
    })
}
