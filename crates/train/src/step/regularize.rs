//! The terms on representations: R, and its certified counterpart.

use super::{StepOutput, Work, accumulate, add_gradient, scaled};
use crate::certified::{Certified, worst_cross_entropy};
use crate::model::Model;
use std::cell::RefCell;
use tarrl_bound::{AttackMaximizerFrom, Regularizer, RegularizerInput};
use tarrl_encoders::{BnBranch, ForwardContext, parameters};
use tarrl_tensor::{Tensor, backward};

/// R; the gradient of λ R is added. x' is found on the encoder at rest, then x and x' are seen in training together.
pub(super) fn regularize(
    work: &Work<'_>,
    regularizer: &Regularizer,
    anchor: &Tensor,
    output: &mut StepOutput,
) -> Tensor {
    let (model, input) = (work.net.model, work.input);
    let frozen = model.encoder.inference();
    // The closure is called where nothing else can write to the pass.
    let pass = RefCell::new(ForwardContext::train());
    let wanted = RegularizerInput {
        eval_encoder: &|u| frozen.forward(u),
        train_encoder: &|u| model.encoder.forward(u, &mut pass.borrow_mut()),
        x: anchor,
        epsilon_scale: input.epsilon_scale,
        keys: input.keys,
    };
    let term = match &input.starts.regularizer {
        Some(start) => regularizer.term_with(&AttackMaximizerFrom { start }, &wanted),
        None => regularizer.term(&wanted),
    };
    let value = add(model, term.value, regularizer.weight(), output);
    output.weight = regularizer.weight();
    rest_on(pass.into_inner(), output);
    output.forward += term.forward;
    output.backward += term.backward;
    value
}

/// The certified term, whose gradient is added. The encoder takes its running statistics from this pass: those of clean
/// images, which the bounds of the finished encoder are computed with.
pub(super) fn certify(work: &Work<'_>, term: &Certified, anchor: &Tensor, output: &mut StepOutput) -> Tensor {
    let (model, input) = (work.net.model, work.input);
    let mut pass = ForwardContext::train();
    let value = if term.clusters.is_empty() {
        let value = term.value(&model.encoder, anchor, input.certified_scale, &mut pass);
        add(model, value, term.weight, output)
    } else {
        let found = term.intervals(&model.encoder, anchor, input.certified_scale, &mut pass);
        let sets = term.clusters.len();
        let [classifiers, labels] =
            [model.heads.classifiers.len(), input.clusters.len()].map(|all| all - sets);
        let losses = model.heads.classifiers[classifiers..].iter().zip(&input.clusters[labels..]);
        let losses = losses.map(|(head, labels)| worst_cross_entropy(&found, head.linear(), labels));
        let sum = losses.reduce(|sum, loss| &sum + &loss).expect("there is a set of clusters");
        drop(found);
        let value = scaled(sum, 1.0 / sets as f64);
        let constant = value.detach();
        add_gradient(model, scaled(value, term.weight), output);
        constant
    };
    output.certified_weight = term.weight;
    rest_on(pass, output);
    // The clean images, the centers and the radii.
    output.forward += 3 * anchor.shape()[0] as u64;
    output.backward += 3 * anchor.shape()[0] as u64;
    value
}

/// Adds `weight` times the gradient of a term of the encoder alone, whose parameters are the first of the model's; returns
/// the term, a constant.
fn add(model: &Model, term: Tensor, weight: f64, output: &mut StepOutput) -> Tensor {
    let (trained, constant) = (parameters(&model.encoder), term.detach());
    let gradients = backward(term, &trained.iter().collect::<Vec<_>>());
    accumulate(gradients, weight, &mut output.gradients);
    constant
}

/// The running statistics of the normal branch are those of `pass` and of no other.
fn rest_on(pass: ForwardContext, output: &mut StepOutput) {
    output.passes.encoder.retain(|(branch, _)| *branch != BnBranch::Clean);
    output.passes.encoder.push((BnBranch::Clean, pass));
}
