//! The slow copy of the networks that views are compared with.

use crate::model::{Embedded, Heads, Model};
use tarrl_encoders::{BATCH_NORM_MOMENTUM, Buffers, Ema, ForwardContext, Module, detach, ema};
use tarrl_tensor::Tensor;

/// Encoder and projector that follow the trained ones (Grill et al. 2020; He et al. 2020): constants.
///
/// Only parameters follow. Batch norm sees the batch, as in the network that is followed, and collects running statistics of
/// its own, which nobody uses: it is the online encoder that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Slow(Model);

impl Slow {
    /// A copy of the model before the first step, without predictor and classifiers.
    pub(crate) fn new(model: &Model) -> Self {
        let heads = Heads { projector: model.heads.projector.clone(), ..Heads::default() };
        let mut copy = Model { encoder: model.encoder.clone(), heads };
        detach(&mut copy);
        Slow(copy)
    }

    /// What it says of images `(n, h, w, c)`, with the pass whose statistics it [absorbs](Slow::update_running_stats).
    pub(crate) fn embed(&self, x: &Tensor) -> (Embedded, ForwardContext) {
        let mut pass = ForwardContext::train();
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
