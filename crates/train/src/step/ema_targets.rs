//! Targets of the momentum encoder.

use super::context::StepContext;
use super::output::Passes;
use tarrl_encoders::ForwardContext;
use tarrl_tensor::Tensor;

/// The momentum encoder's outputs for a batch.
#[derive(Default)]
pub(super) struct EmaTargets {
    /// `(n, out)` by place in the plan: those of the objective's views and of the images that are attacked.
    pub(super) targets: Vec<Option<Tensor>>,
    /// Its batch statistics.
    pub(super) context: Option<ForwardContext>,
    /// Images that went through it.
    pub(super) passes: Passes,
}

/// One pass of the momentum encoder over all images that the objective compares; nothing without such a network.
pub(super) fn compute(ctx: &StepContext<'_>) -> EmaTargets {
    let (Some(ema), plan) = (ctx.networks.ema, &ctx.plan) else { return EmaTargets::default() };
    let mut places: Vec<usize> = (0..plan.views).chain(plan.attacked.iter().copied()).collect();
    places.sort_unstable();
    places.dedup();
    let n = ctx.batch_size();
    let (output, context) = ema.embed(&ctx.images(&places), ctx.shard());
    let mut targets = vec![None; plan.images.len()];
    for (part, &place) in places.iter().enumerate() {
        targets[place] = output.part(part, n).projections;
    }
    let passes = Passes { forward: (places.len() * n) as u64, backward: 0 };
    EmaTargets { targets, context: Some(context), passes }
}
