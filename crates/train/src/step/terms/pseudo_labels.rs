//! The pseudo-label term: classifiers of the teacher's clusters, on attacked images.

use crate::batch_pgd::batch_pgd;
use crate::model::Classifier;
use crate::step::context::StepContext;
use crate::step::output::{BatchStatistics, Passes, TermKind, TermOutput, gradients, scaled};
use crate::step::scope::Scope;
use tarrl_encoders::{BnBranch, detach};
use tarrl_objectives::cross_entropy;
use tarrl_tensor::{Array, Tensor};

/// See [`PseudoLabels`](crate::PseudoLabels).
pub(super) fn term(ctx: &StepContext<'_>) -> Option<TermOutput> {
    let (config, view) = ctx.method.pseudo_labels.as_ref().zip(ctx.plan.labeled)?;
    let (model, x, clusters) = (ctx.networks.model, &ctx.input.views[view], ctx.input.clusters);
    let n = x.shape()[0] as u64;
    let first = model.heads.classifiers.len() - clusters.len();
    let sets = first..first + config.clusters.len();
    let branch = ctx.method.adversary.as_ref().map_or(BnBranch::Clean, |adversary| adversary.branch);
    let mut heads = model.heads.clone();
    detach(&mut heads);
    let frozen = model.encoder.inference_branch(branch);
    let start = &ctx.input.initial_points.pseudo_labels;
    let start = start.as_ref().expect("the attack on pseudo-labels has an initial point");
    let loss = |u: &Tensor| pseudo_label_loss(&heads.classifiers[sets.clone()], clusters, &frozen.forward(u));
    let (moved, steps) = batch_pgd(x, &loss, &config.attack, start);
    let mut context = ctx.train_context(branch);
    let features = model.encoder.forward(&moved, &mut context);
    let value = pseudo_label_loss(&model.heads.classifiers[sets.clone()], clusters, &features);
    drop(features);
    let value = scaled(value, config.weight);
    Some(TermOutput {
        kind: TermKind::Objective,
        scope: Scope::Shard,
        value: value.detach(),
        weight: 1.0,
        gradients: gradients(value, model),
        gradient_factor: 1.0,
        statistics: vec![BatchStatistics { branch, context, heads: false, exclusive: false }],
        reported: None,
        regularizer: None,
        passes: Passes { forward: steps + n, backward: steps + n },
    })
}

/// The mean over sets of clusters of the cross-entropy of each set's classifier, of representations `(n, d)`.
fn pseudo_label_loss(classifiers: &[Classifier], clusters: &[Array], features: &Tensor) -> Tensor {
    let losses = classifiers.iter().zip(clusters);
    let losses = losses.map(|(classifier, labels)| cross_entropy(&classifier.logits(features), labels));
    let sum = losses.reduce(|sum, loss| &sum + &loss).expect("there is a set of clusters");
    scaled(sum, 1.0 / classifiers.len() as f64)
}
