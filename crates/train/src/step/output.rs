//! The output of a term, and the sum of all terms: the output of a step.

use super::context::Networks;
use super::metrics::{StepMetrics, StepScalars, TermScalars};
use super::scope::Scope;
use tarrl_encoders::{BATCH_NORM_MOMENTUM, BnBranch, ForwardContext, Module, buffers, parameters};
use tarrl_parallel::{Shard, all_sum};
use tarrl_tensor::{Array, Tensor, backward};

/// What a term adds to a step.
pub(super) struct TermOutput {
    /// Where its value is reported.
    pub(super) kind: TermKind,
    /// Whose images it is computed of.
    pub(super) scope: Scope,
    /// Its value, a scalar without gradient.
    pub(super) value: Tensor,
    /// The factor of the value in the loss.
    pub(super) weight: f64,
    /// The gradients in the first parameters of the model, of which a term of the encoder alone has no others.
    pub(super) gradients: Vec<Tensor>,
    /// The factor that the gradients still lack.
    pub(super) gradient_factor: f64,
    /// The batch statistics of its passes through the model.
    pub(super) statistics: Vec<BatchStatistics>,
    /// The representations `(v·n, d)` and embeddings `(v·n, out)` to report, of a term of the objective.
    pub(super) reported: Option<(Tensor, Option<Tensor>)>,
    /// R and its factor in the loss, of a term of the objective that contains λ R.
    pub(super) regularizer: Option<(Tensor, f64)>,
    /// Images forward and backward.
    pub(super) passes: Passes,
}

/// Where the value of a term is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TermKind {
    /// The objective; its values are summed.
    Objective,
    /// R.
    Regularizer,
    /// The certified term.
    Certified,
}

/// The batch statistics of one pass through the model.
pub(super) struct BatchStatistics {
    /// The set of batch norm that it used.
    pub(super) branch: BnBranch,
    pub(super) context: ForwardContext,
    /// Whether the pass went through the heads too.
    pub(super) heads: bool,
    /// Whether the clean branch of the encoder takes its running statistics from this pass alone.
    pub(super) exclusive: bool,
}

/// Images that went forward through an encoder, and that a gradient went back through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passes {
    pub(crate) forward: u64,
    pub(crate) backward: u64,
}

/// The output of a step. Nothing of it has been read from the device.
#[derive(Clone, Default)]
pub(crate) struct StepOutput {
    /// Of the whole loss, in the order of the model's parameters.
    pub(crate) gradients: Vec<Tensor>,
    /// The model's buffers after the step.
    pub(crate) buffers: Vec<Tensor>,
    /// The momentum encoder's buffers after the step.
    pub(crate) ema_buffers: Vec<Tensor>,
    /// Representations `(v·n, d)` of the first term, a constant.
    pub(crate) features: Option<Tensor>,
    /// What the objective compares of them `(v·n, out)`, a constant.
    pub(crate) embeddings: Option<Tensor>,
    /// The momentum encoder's targets of the views, each `(n, out)`: constants.
    pub(crate) ema_targets: Vec<Tensor>,
    /// Values of the terms and norms of the gradients.
    scalars: StepScalars,
    /// Images forward and backward.
    pub(crate) passes: Passes,
}

impl StepOutput {
    /// The metrics of the step, with one wait for the device.
    pub(crate) fn read(&self) -> StepMetrics {
        self.scalars.read()
    }

    /// Replaces every array by `f` of it, in a fixed order.
    pub(super) fn exchange(&mut self, f: &mut dyn FnMut(&Array) -> Array) {
        let tensors = (self.gradients.iter_mut())
            .chain(&mut self.buffers)
            .chain(&mut self.ema_buffers)
            .chain(&mut self.features)
            .chain(&mut self.embeddings)
            .chain(&mut self.ema_targets)
            .chain(self.scalars.line_mut());
        tensors.for_each(|tensor| *tensor = f(tensor.array()).into());
    }
}

/// The sum of the terms so far.
#[derive(Default)]
pub(super) struct StepSum {
    gradients: Vec<Tensor>,
    terms: TermScalars,
    encoder: Vec<(BnBranch, ForwardContext)>,
    heads: Vec<ForwardContext>,
    features: Option<Tensor>,
    embeddings: Option<Tensor>,
    passes: Passes,
}

impl StepSum {
    /// Adds passes through a network that belong to no term.
    pub(super) fn count(&mut self, passes: Passes) {
        self.passes.forward += passes.forward;
        self.passes.backward += passes.backward;
    }

    /// Adds a term, of a shard of the batch if there are several.
    pub(super) fn add(&mut self, mut term: TermOutput, shard: Option<&Shard>) {
        if let (Some(shard), Scope::Shard) = (shard, term.scope) {
            let share = 1.0 / shard.count() as f64;
            term.value = all_sum(&term.value, shard).mul_scalar(share);
            if self.gradients.is_empty() {
                term.gradients.iter_mut().for_each(|g| *g = g.mul_scalar(share));
            } else {
                term.gradient_factor *= share;
            }
        }
        accumulate(&mut self.gradients, term.gradients, term.gradient_factor);
        match term.kind {
            TermKind::Objective => self.terms.objective.push(term.value),
            TermKind::Regularizer => self.terms.regularizer = Some((term.value, term.weight)),
            TermKind::Certified => self.terms.certified = Some((term.value, term.weight)),
        }
        if term.regularizer.is_some() {
            self.terms.regularizer = term.regularizer;
        }
        for BatchStatistics { branch, context, heads, exclusive } in term.statistics {
            if heads {
                self.heads.push(context.clone());
            }
            if exclusive {
                self.encoder.retain(|(branch, _)| *branch != BnBranch::Clean);
            }
            self.encoder.push((branch, context));
        }
        if self.features.is_none()
            && let Some((features, embeddings)) = term.reported
        {
            (self.features, self.embeddings) = (Some(features), embeddings);
        }
        self.count(term.passes);
    }

    /// The output of the step, with the momentum encoder's batch statistics and its targets of the views.
    pub(super) fn finish(
        self,
        networks: &Networks<'_>,
        ema: Option<ForwardContext>,
        ema_targets: Vec<Tensor>,
        shard: Option<&Shard>,
    ) -> StepOutput {
        let gradients = summed(self.gradients, shard);
        let shards = shard.map_or(1, Shard::count) as u64;
        let features = self.features.as_ref().expect("every method has a term of its objective");
        let scalars = StepScalars::new(self.terms, features, self.embeddings.as_ref(), &gradients);
        let mut model = networks.model.clone();
        for (_, context) in &self.encoder {
            model.encoder.update_running_stats(context, BATCH_NORM_MOMENTUM);
        }
        for context in &self.heads {
            model.heads.update_running_stats(context, BATCH_NORM_MOMENTUM);
        }
        let ema_buffers = networks.ema.cloned().zip(ema).map(|(mut ema, context)| {
            ema.update_running_stats(&context);
            buffers(ema.module())
        });
        StepOutput {
            gradients,
            buffers: buffers(&model),
            ema_buffers: ema_buffers.unwrap_or_default(),
            features: self.features,
            embeddings: self.embeddings,
            ema_targets,
            scalars,
            passes: Passes { forward: shards * self.passes.forward, backward: shards * self.passes.backward },
        }
    }
}

/// The gradients of `value` in the parameters of `module`. The graph is released on the way, so that nothing else may
/// hold it.
pub(super) fn gradients(value: Tensor, module: &dyn Module) -> Vec<Tensor> {
    backward(value, &parameters(module).iter().collect::<Vec<_>>())
}

/// The gradients of all shards together.
fn summed(gradients: Vec<Tensor>, shard: Option<&Shard>) -> Vec<Tensor> {
    let Some(shard) = shard else { return gradients };
    let mut all: Vec<f32> = gradients.iter().flat_map(|g| g.to_vec::<f32>()).collect();
    let length = all.len();
    shard.sum(&mut all);
    all.resize(length, 0.0);
    let mut rest = &all[..];
    let take = |g: &Tensor| {
        let (own, others) = rest.split_at(g.array().len());
        rest = others;
        Tensor::new(g.device(), *g.shape(), own)
    };
    gradients.iter().map(take).collect()
}

/// `factor · value`, without an operation for a factor of 1.
pub(super) fn scaled(value: Tensor, factor: f64) -> Tensor {
    if factor == 1.0 { value } else { value.mul_scalar(factor) }
}

/// Adds `factor` times gradients of the first parameters to the sum.
fn accumulate(sum: &mut Vec<Tensor>, gradients: Vec<Tensor>, factor: f64) {
    if sum.is_empty() {
        *sum = gradients;
        return;
    }
    for (sum, g) in sum.iter_mut().zip(&gradients) {
        *sum = if factor == 1.0 { &*sum + g } else { &*sum + &(g * factor) };
    }
}
