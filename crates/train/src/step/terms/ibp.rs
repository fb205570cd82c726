//! The certified term: an interval bound of the worst case in the ball.

use crate::ibp_loss::worst_cross_entropy;
use crate::step::context::StepContext;
use crate::step::output::{BatchStatistics, Passes, TermKind, TermOutput, gradients, scaled};
use crate::step::scope::Scope;
use tarrl_encoders::BnBranch;

/// See [`IbpLoss`](crate::IbpLoss). The encoder takes its running statistics from this pass: those of clean images, which
/// the bounds of the finished encoder are computed with.
pub(super) fn term(ctx: &StepContext<'_>) -> Option<TermOutput> {
    let (term, anchor) = ctx.method.certified.as_ref().zip(ctx.plan.certified)?;
    let (model, input) = (ctx.networks.model, ctx.input);
    let anchor = &input.views[anchor];
    let mut context = ctx.train_context(BnBranch::Clean);
    let found = term.intervals(&model.encoder, anchor, input.certified_scale, &mut context);
    // Classifiers of clusters see each shard's own images: gathered ones would give every shard their whole gradient.
    let scope = if term.clusters.is_empty() { Scope::Batch } else { Scope::Shard };
    let (constant, gradients, gradient_factor) = if term.clusters.is_empty() {
        let value = term.value_of(&ctx.gathered_intervals(found));
        (value.detach(), gradients(value, &model.encoder), term.weight)
    } else {
        let sets = term.clusters.len();
        let [classifiers, labels] =
            [model.heads.classifiers.len(), input.clusters.len()].map(|all| all - sets);
        let losses = model.heads.classifiers[classifiers..].iter().zip(&input.clusters[labels..]);
        let losses = losses.map(|(head, labels)| worst_cross_entropy(&found, head.linear(), labels));
        let sum = losses.reduce(|sum, loss| &sum + &loss).expect("there is a set of clusters");
        drop(found);
        let value = scaled(sum, 1.0 / sets as f64);
        (value.detach(), gradients(scaled(value, term.weight), model), 1.0)
    };
    // The clean images, the centers and the radii.
    let images = 3 * anchor.shape()[0] as u64;
    Some(TermOutput {
        kind: TermKind::Certified,
        scope,
        value: constant,
        weight: term.weight,
        gradients,
        gradient_factor,
        statistics: vec![BatchStatistics { branch: BnBranch::Clean, context, heads: false, exclusive: true }],
        reported: None,
        regularizer: None,
        passes: Passes { forward: images, backward: images },
    })
}
