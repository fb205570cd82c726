//! The distillation term: a teacher's representations, with consistency under attack.

use crate::batch_pgd::batch_pgd;
use crate::method::DistillationLoss;
use crate::step::context::StepContext;
use crate::step::output::{BatchStatistics, Passes, TermKind, TermOutput, gradients, scaled};
use crate::step::scope::Scope;
use tarrl_encoders::BnBranch;
use tarrl_objectives::{deacl, fare, negative_cosine, squared_distance};
use tarrl_tensor::Tensor;

/// See [`Distillation`](crate::Distillation).
pub(super) fn term(ctx: &StepContext<'_>) -> Option<TermOutput> {
    let (distillation, view) = ctx.method.distillation.as_ref().zip(ctx.plan.distilled)?;
    let (model, x) = (ctx.networks.model, &ctx.input.views[view]);
    let n = x.shape()[0];
    let taught = ctx.networks.teacher.expect("a method that distills has a teacher").forward(x).detach();
    let frozen = model.encoder.inference();
    let away = |u: &Tensor| match distillation.loss {
        DistillationLoss::Cosine => negative_cosine(&frozen.forward(u), &taught),
        DistillationLoss::SquaredDistance => squared_distance(&frozen.forward(u), &taught),
    };
    let start = &ctx.input.initial_points.distillation;
    let start = start.as_ref().expect("the attack of a distillation has an initial point");
    let (moved, steps) = batch_pgd(x, &away, &distillation.attack, start);
    let mut context = ctx.train_context(BnBranch::Clean);
    let both = model.encoder.forward(&Tensor::concat(&[x, &moved], 0), &mut context); // (2n, d)
    let reported = Some((ctx.gathered(&both.slice(0, 0, n).detach(), 1), None));
    let [clean, adversarial] = [0, n].map(|from| both.slice(0, from, n));
    drop(both);
    let loss = match distillation.loss {
        DistillationLoss::Cosine => deacl,
        DistillationLoss::SquaredDistance => fare,
    };
    let value = loss([&clean, &adversarial], &taught, distillation.consistency);
    drop((clean, adversarial));
    let value = scaled(value, distillation.weight);
    Some(TermOutput {
        kind: TermKind::Objective,
        scope: Scope::Shard,
        value: value.detach(),
        weight: 1.0,
        gradients: gradients(value, model),
        gradient_factor: 1.0,
        statistics: vec![BatchStatistics {
            branch: BnBranch::Clean,
            context,
            heads: false,
            exclusive: false,
        }],
        reported,
        regularizer: None,
        passes: Passes { forward: n as u64 + steps + 2 * n as u64, backward: steps + 2 * n as u64 },
    })
}
