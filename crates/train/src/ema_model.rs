//! Momentum encoder: an exponential moving average (EMA) of the trained model.

use crate::model::{Heads, Model, NetworkOutput};
use tarrl_encoders::{BATCH_NORM_MOMENTUM, Buffers, Ema, ForwardContext, Module, detach, ema};
use tarrl_parallel::Shard;
use tarrl_tensor::Tensor;

/// Moving averages of encoder and projector (Grill et al. 2020; He et al. 2020), which receive no gradient.
///
/// Only parameters are averaged. Batch norm uses the batch, as in the trained model, and keeps running statistics of its
/// own, which nothing reads: the online encoder is the result.
#[derive(Clone, Debug)]
pub(crate) struct EmaModel(Model);

impl EmaModel {
    /// A copy of the model before the first step, without predictor and classifiers.
    pub(crate) fn new(model: &Model) -> Self {
        let heads = Heads { projector: model.heads.projector.clone(), ..Heads::default() };
        let mut copy = Model { encoder: model.encoder.clone(), heads };
        detach(&mut copy);
        EmaModel(copy)
    }

    /// The outputs for images `(n, h, w, c)`, with the context for [`update_running_stats`](EmaModel::update_running_stats).
    pub(crate) fn embed(&self, x: &Tensor, shard: Option<&Shard>) -> (NetworkOutput, ForwardContext) {
        let mut pass = ForwardContext::train().across(shard);
        (self.0.embed(x, &mut pass), pass)
    }

    /// `θ ← m θ + (1 − m) θ_online`.
    pub(crate) fn follow(&mut self, model: &Model, m: f64) {
        ema(&mut self.0, model, &Ema { momentum: m, buffers: Buffers::Own });
    }

    pub(crate) fn update_running_stats(&mut self, pass: &ForwardContext) {
        self.0.update_running_stats(pass, BATCH_NORM_MOMENTUM);
    }

    pub(crate) fn module(&self) -> &dyn Module {
        &self.0
    }

    pub(crate) fn module_mut(&mut self) -> &mut dyn Module {
        &mut self.0
    }
}
