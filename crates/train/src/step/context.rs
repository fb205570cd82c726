//! The context of a step: networks, method, batch, and what attacks and momentum encoder found.

use super::initial_points::InitialPoints;
use crate::ema_model::EmaModel;
use crate::method::{Method, Plan, stack};
use crate::model::Model;
use tarrl_encoders::{InferenceEncoder, Projector};
use tarrl_objectives::LossState;
use tarrl_parallel::Shard;
use tarrl_tensor::{Array, Key, Tensor};

/// The networks of a training.
#[derive(Clone, Copy)]
pub(crate) struct Networks<'a> {
    /// The trained model, whose parameters track gradients.
    pub(crate) model: &'a Model,
    /// The momentum encoder.
    pub(crate) ema: Option<&'a EmaModel>,
    /// The teacher.
    pub(crate) teacher: Option<&'a InferenceEncoder>,
    /// The projector of a distillation, which is never trained.
    pub(crate) projector: Option<&'a Projector>,
}

/// The batch of a step and its settings.
pub(crate) struct StepInput<'a> {
    /// The views of [`Method::all_views`], each `(n, h, w, c)` in `[0, 1]`.
    pub(crate) views: &'a [Tensor],
    /// U32 `(n)`: the classes of the images.
    pub(crate) labels: &'a Array,
    /// U32 `(n)`: their clusters, for each set.
    pub(crate) clusters: &'a [Array],
    /// The state of the objective.
    pub(crate) state: Option<&'a dyn LossState>,
    /// The key of the step, for objectives that sample.
    pub(crate) key: Key,
    /// Progress of the schedule of [`Strength`](crate::Strength), in `[0, 1]`.
    pub(crate) share: f64,
    /// ε of the regularizer as a share of its final value.
    pub(crate) epsilon_scale: f64,
    /// λ of the regularizer as a share of its final value.
    pub(crate) weight_scale: f64,
    /// ε of the certified term as a share of its final value.
    pub(crate) certified_scale: f64,
    /// `(n)`: one key for each image, for the attacks.
    pub(crate) keys: &'a [Key],
    /// Where the attacks start.
    pub(crate) initial_points: &'a InitialPoints,
    /// The whole batch, if this is one of several shards.
    pub(crate) batch: Option<ShardedBatch<'a>>,
}

/// The shard that a step computes, and what it knows of the whole batch.
#[derive(Clone, Copy)]
pub(crate) struct ShardedBatch<'a> {
    pub(crate) shard: &'a Shard,
    /// U32 `(n)`: the classes of the images of all shards.
    pub(crate) labels: &'a Array,
}

/// What the terms of a step read.
pub(super) struct StepContext<'a> {
    pub(super) networks: Networks<'a>,
    pub(super) method: &'a Method,
    pub(super) input: &'a StepInput<'a>,
    pub(super) plan: Plan,
    /// The momentum encoder's targets `(n, out)` by place in the plan; empty without such a network.
    pub(super) ema_targets: Vec<Option<Tensor>>,
    /// The same of the whole batch, if it has several shards.
    pub(super) batch_targets: Option<Vec<Option<Tensor>>>,
    /// The adversarial views `(n, h, w, c)`, in the order of [`Plan::attacked`].
    pub(super) adversarial_views: Vec<Tensor>,
}

impl<'a> StepContext<'a> {
    pub(super) fn new(networks: Networks<'a>, method: &'a Method, input: &'a StepInput<'a>) -> Self {
        let plan = Plan::new(method);
        let (ema_targets, batch_targets, adversarial_views) = (Vec::new(), None, Vec::new());
        StepContext { networks, method, input, plan, ema_targets, batch_targets, adversarial_views }
    }

    /// Images of the batch, or of this shard of it, n.
    pub(super) fn batch_size(&self) -> usize {
        self.input.keys.len()
    }

    /// The images at `places` of the plan, stacked: `(places·n, h, w, c)`.
    pub(super) fn images(&self, places: &[usize]) -> Tensor {
        stack(places.iter().map(|&place| &self.input.views[place]))
    }
}
