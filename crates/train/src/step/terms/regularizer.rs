//! The regularizer term λ R on the representations, with an attack of its own.

use crate::step::context::StepContext;
use crate::step::output::{BatchStatistics, Passes, TermKind, TermOutput, gradients};
use crate::step::scope::Scope;
use std::cell::RefCell;
use tarrl_bound::{AttackMaximizerFrom, RegularizerInput};
use tarrl_encoders::BnBranch;

/// λ R: x' is found on the encoder in evaluation mode, then x and x' go through it in training mode together.
pub(super) fn term(ctx: &StepContext<'_>) -> Option<TermOutput> {
    let (regularizer, anchor) = ctx.method.regularizer.as_ref().zip(ctx.plan.regularizer)?;
    let (encoder, input) = (&ctx.networks.model.encoder, ctx.input);
    let frozen = encoder.inference();
    // The regularizer calls the closure where nothing else can write to the context.
    let context = RefCell::new(ctx.train_context(BnBranch::Clean));
    let wanted = RegularizerInput {
        eval_encoder: &|u| frozen.forward(u),
        train_encoder: &|u| encoder.forward(u, &mut context.borrow_mut()),
        x: &input.views[anchor],
        epsilon_scale: input.epsilon_scale,
        keys: input.keys,
    };
    let term = match &input.initial_points.regularizer {
        Some(start) => regularizer.term_with(&AttackMaximizerFrom { start }, &wanted),
        None => regularizer.term(&wanted),
    };
    let weight = regularizer.weight() * input.weight_scale;
    Some(TermOutput {
        kind: TermKind::Regularizer,
        scope: Scope::Shard,
        value: term.value.detach(),
        weight,
        gradients: gradients(term.value, encoder),
        gradient_factor: weight,
        statistics: vec![BatchStatistics {
            branch: BnBranch::Clean,
            context: context.into_inner(),
            heads: false,
            exclusive: true,
        }],
        reported: None,
        regularizer: None,
        passes: Passes { forward: term.forward, backward: term.backward },
    })
}
