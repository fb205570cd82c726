//! Batch normalization with explicit running statistics.

use super::shard_norm::{shard_mean, shard_norm};
use crate::forward_context::{BatchStatistics, ForwardContext};
use crate::module::Role;
use crate::param_builder::ParamBuilder;
use std::sync::Arc;
use tarrl_parallel::Shard;
use tarrl_tensor::{BatchNorm as Normed, Norm, Tensor};

/// Added to the variance.
pub const BATCH_NORM_EPS: f64 = 1e-5;

/// The usual weight of a batch in the running statistics.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// `γ·(x − mean) / √(variance + eps) + β` for each channel (Ioffe & Szegedy 2015).
///
/// In training, mean and biased variance of the batch; else the running ones, which only
/// [`Module::update_running_stats`](crate::Module::update_running_stats) changes.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    name: Arc<str>,
    /// γ and β; `None` for a layer without them, where they are one and zero.
    scale: Option<[Tensor; 2]>,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
}

/// What follows the normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0), in the same pass over memory as the normalization.
    Relu,
    /// Nothing: a sum with another branch follows.
    None,
}

/// Batch norm with given statistics as an affine map: `x·scale + shift`.
pub(crate) struct Affine {
    /// `(c)`
    pub(crate) scale: Tensor,
    /// `(c)`
    pub(crate) shift: Tensor,
}

impl BatchNorm {
    /// γ = 1, β = 0, running mean 0 and variance 1.
    pub fn new(params: &ParamBuilder, channels: usize) -> Self {
        let scale = Some([params.full(channels, 1.0), params.full(channels, 0.0)]);
        BatchNorm { scale, ..BatchNorm::plain(params, channels) }
    }

    /// Without γ and β.
    pub fn plain(params: &ParamBuilder, channels: usize) -> Self {
        BatchNorm {
            name: params.name().into(),
            scale: None,
            running_mean: params.full(channels, 0.0),
            running_var: params.full(channels, 1.0),
            num_batches_tracked: params.zero_count(),
        }
    }

    /// Normalizes `(…, c)`, then applies the activation.
    ///
    /// # Panics
    /// In training, if there is only one value per channel: it has no variance.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, activation: Activation, pass: &mut ForwardContext) -> Tensor {
        let relu = activation == Activation::Relu;
        if !pass.is_train() {
            let Affine { scale, shift } = self.affine();
            return x.channel_affine(&scale, &shift, relu);
        }
        let [weight, bias] = self.weight_and_bias();
        let norm = Norm { eps: BATCH_NORM_EPS, relu };
        let normed = match pass.shard() {
            None => x.batch_norm(&weight, &bias, norm),
            Some(shard) => shard_norm(x, &weight, &bias, norm, shard),
        };
        self.collect(normed, pass)
    }

    /// `max(forward(x) + skip, 0)`: the end of a residual block.
    #[track_caller]
    pub(crate) fn forward_add_relu(&self, x: &Tensor, skip: &Tensor, pass: &mut ForwardContext) -> Tensor {
        if !pass.is_train() || pass.shard().is_some() {
            return self.forward(x, Activation::None, pass).add_relu(skip);
        }
        let [weight, bias] = self.weight_and_bias();
        self.collect(x.batch_norm_add_relu(&weight, &bias, skip, BATCH_NORM_EPS), pass)
    }

    /// Collects the statistics of a batch in the context.
    #[track_caller]
    fn collect(&self, out: Normed, pass: &mut ForwardContext) -> Tensor {
        let Normed { y, mean, variance } = out;
        let count = y.array().len() / mean.len() * pass.shard().map_or(1, Shard::count);
        assert!(
            count > 1,
            "batch norm {}: one value per channel in {:?} has no variance",
            self.name,
            y.shape()
        );
        let layer = self.name.clone();
        pass.collect(BatchStatistics { layer, mean, variance, count });
        y
    }

    /// The affine map of eval mode.
    pub(crate) fn affine(&self) -> Affine {
        let [weight, bias] = self.weight_and_bias();
        let scale = &weight / &self.running_var.add_scalar(BATCH_NORM_EPS).sqrt();
        let shift = &bias - &(&self.running_mean * &scale);
        Affine { scale, shift }
    }

    /// γ and β `(c)`.
    fn weight_and_bias(&self) -> [Tensor; 2] {
        self.scale.clone().unwrap_or_else(|| {
            let zero = self.running_mean.zeros_like();
            [zero.add_scalar(1.0), zero]
        })
    }

    /// The same layer under another name.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        BatchNorm { name: name.into(), ..self.clone() }
    }

    /// Its dotted name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The map that [`forward`](BatchNorm::forward) applies to `x` `(…, c)` before the activation; in training a
    /// differentiable function of `x`, whose statistics the pass collects.
    #[track_caller]
    pub(crate) fn affine_at(&self, x: &Tensor, pass: &mut ForwardContext) -> Affine {
        if !pass.is_train() {
            return self.affine();
        }
        let c = self.running_mean.shape()[0];
        let count = x.array().len() / c;
        let rows = x.reshape([count, c]);
        let (mean, variance, count) = match pass.shard() {
            None => {
                let mean = rows.mean(0);
                let variance = (&rows - &mean).square().mean(0).reshape([c]);
                (mean.reshape([c]), variance, count)
            }
            Some(shard) => {
                let mean = shard_mean(&rows, shard);
                let variance = shard_mean(&(&rows - &mean).square(), shard);
                (mean, variance, count * shard.count())
            }
        };
        let layer = self.name.clone();
        let (m, v) = (mean.array().clone(), variance.array().clone());
        pass.collect(BatchStatistics { layer, mean: m, variance: v, count });
        let [weight, bias] = self.weight_and_bias();
        let scale = &weight / &variance.add_scalar(BATCH_NORM_EPS).sqrt();
        let shift = &bias - &(&mean * &scale);
        Affine { scale, shift }
    }

    /// Calls `f` with scale, shift and running statistics.
    pub fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        let name = |part| format!("{}.{part}", self.name);
        if let Some([weight, bias]) = &self.scale {
            f(&name("weight"), Role::NormScale, weight);
            f(&name("bias"), Role::NormShift, bias);
        }
        f(&name("running_mean"), Role::Buffer, &self.running_mean);
        f(&name("running_var"), Role::Buffer, &self.running_var);
        f(&name("num_batches_tracked"), Role::Buffer, &self.num_batches_tracked);
    }

    /// Calls `f` with scale, shift and running statistics, to replace them.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        let name = |part| format!("{}.{part}", self.name);
        if let Some([weight, bias]) = &mut self.scale {
            f(&name("weight"), Role::NormScale, weight);
            f(&name("bias"), Role::NormShift, bias);
        }
        f(&name("running_mean"), Role::Buffer, &mut self.running_mean);
        f(&name("running_var"), Role::Buffer, &mut self.running_var);
        f(&name("num_batches_tracked"), Role::Buffer, &mut self.num_batches_tracked);
    }
}
