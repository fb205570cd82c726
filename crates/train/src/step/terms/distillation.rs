//! The distillation term: a teacher's representations, with consistency under attack.

use crate::batch_pgd::batch_pgd;
use crate::method::{Distillation, DistillationLoss};
use crate::step::context::StepContext;
use crate::step::output::{BatchStatistics, Passes, TermKind, TermOutput, gradients, scaled};
use crate::step::scope::Scope;
use tarrl_encoders::{BnBranch, ForwardContext, Projector};
use tarrl_objectives::{deacl, fare, negative_cosine, squared_distance};
use tarrl_tensor::Tensor;

/// See [`Distillation`](crate::Distillation).
pub(super) fn term(ctx: &StepContext<'_>) -> Option<TermOutput> {
    let distillation = ctx.method.distillation.as_ref()?;
    let (view, taught) = ctx.plan.distilled.zip(ctx.plan.taught)?;
    let (model, x) = (ctx.networks.model, &ctx.input.views[view]);
    let n = x.shape()[0];
    let teacher = ctx.networks.teacher.expect("a method that distills has a teacher");
    let taught = teacher.forward(&ctx.input.views[taught]).detach();
    let Distilled { value, steps, contexts, clean } = match ctx.networks.projector {
        Some(projector) => of_projections(ctx, distillation, projector, (x, &taught)),
        None => of_representations(ctx, distillation, (x, &taught)),
    };
    let value = scaled(value, distillation.weight);
    let statistics =
        |context| BatchStatistics { branch: BnBranch::Clean, context, heads: false, exclusive: false };
    Some(TermOutput {
        kind: TermKind::Objective,
        scope: Scope::Shard,
        value: value.detach(),
        weight: 1.0,
        gradients: gradients(value, model),
        gradient_factor: 1.0,
        statistics: contexts.into_iter().map(statistics).collect(),
        reported: Some((clean, None)),
        regularizer: None,
        passes: Passes { forward: n as u64 + steps + 2 * n as u64, backward: steps + 2 * n as u64 },
    })
}

/// A distillation before its weight.
struct Distilled {
    value: Tensor,
    /// Images that the attack sent forward, and as many backward.
    steps: u64,
    /// The batch statistics of the student's passes.
    contexts: Vec<ForwardContext>,
    /// `(n, d)`: its representations of the clean images of all shards, a constant.
    clean: Tensor,
}

/// Of representations, clean and attacked images in one pass; the attack leads away from the teacher's.
fn of_representations(
    ctx: &StepContext<'_>,
    distillation: &Distillation,
    (x, taught): (&Tensor, &Tensor),
) -> Distilled {
    let (model, n) = (ctx.networks.model, x.shape()[0]);
    let frozen = model.encoder.inference();
    let away = |u: &Tensor| match distillation.loss {
        DistillationLoss::Cosine => negative_cosine(&frozen.forward(u), taught),
        DistillationLoss::SquaredDistance => squared_distance(&frozen.forward(u), taught),
    };
    let (moved, steps) = batch_pgd(x, &away, &distillation.attack, start(ctx));
    let mut context = ctx.train_context(BnBranch::Clean);
    let both = model.encoder.forward(&Tensor::concat(&[x, &moved], 0), &mut context); // (2n, d)
    let reported = ctx.gathered(&both.slice(0, 0, n).detach(), 1);
    let [clean, adversarial] = [0, n].map(|from| both.slice(0, from, n));
    drop(both);
    let loss = match distillation.loss {
        DistillationLoss::Cosine => deacl,
        DistillationLoss::SquaredDistance => fare,
    };
    let value = loss([&clean, &adversarial], taught, distillation.consistency);
    Distilled { value, steps, contexts: vec![context], clean: reported }
}

/// Of representations and their projections, clean and attacked images one after the other; the attack leads
/// representations away from those of the clean images in training mode, and projections away from the teacher's.
fn of_projections(
    ctx: &StepContext<'_>,
    distillation: &Distillation,
    projector: &Projector,
    (x, taught): (&Tensor, &Tensor),
) -> Distilled {
    let encoder = &ctx.networks.model.encoder;
    let project = |z: &Tensor| projector.forward(z, &mut ForwardContext::eval());
    let mut contexts = [BnBranch::Clean; 2].map(|branch| ctx.train_context(branch));
    let clean = encoder.forward(x, &mut contexts[0]);
    let (own, wanted) = (clean.detach(), project(taught));
    let frozen = encoder.inference();
    let away = |u: &Tensor| {
        let z = frozen.forward(u);
        &negative_cosine(&z, &own) + &negative_cosine(&project(&z), &wanted)
    };
    let (moved, steps) = batch_pgd(x, &away, &distillation.attack, start(ctx));
    let adversarial = encoder.forward(&moved, &mut contexts[1]);
    let (share, consistency) = (distillation.projected, distillation.consistency);
    let plain = deacl([&clean, &adversarial], taught, consistency);
    let projected = deacl([&project(&clean), &project(&adversarial)], &wanted, consistency);
    let value = &scaled(plain, 1.0 - share) + &scaled(projected, share);
    Distilled { value, steps, contexts: contexts.into(), clean: ctx.gathered(&own, 1) }
}

fn start<'a>(ctx: &'a StepContext<'_>) -> &'a Tensor {
    let start = &ctx.input.initial_points.distillation;
    start.as_ref().expect("the attack of a distillation has an initial point")
}
