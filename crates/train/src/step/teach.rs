//! The terms of a teacher: its representations, and the clusters that they form.

use super::{StepOutput, Work, add_gradient, objectives, scaled};
use crate::ascend::ascend;
use crate::method::{Distillation, PseudoLabels};
use crate::model::Classifier;
use tarrl_encoders::{BnBranch, ForwardContext, detach};
use tarrl_tensor::Tensor;

/// What is learned from the representations of the teacher, whose gradient is added: see [`Distillation`].
pub(super) fn distil(
    work: &Work<'_>,
    distillation: &Distillation,
    x: &Tensor,
    output: &mut StepOutput,
) -> Tensor {
    let Work { net, input, .. } = work;
    let n = x.shape()[0];
    let taught = net.teacher.expect("a method that distils has a teacher").forward(x).detach();
    let frozen = net.model.encoder.inference();
    let away = |u: &Tensor| objectives::negative_cosine(&frozen.forward(u), &taught);
    let start = input.starts.distillation.as_ref().expect("the attack of a distillation begins somewhere");
    let (moved, passes) = ascend(x, &away, &distillation.attack, start);
    let mut pass = ForwardContext::train();
    let both = net.model.encoder.forward(&Tensor::concat(&[x, &moved], 0), &mut pass); // (2n, d)
    output.features.get_or_insert_with(|| both.slice(0, 0, n).detach());
    let [clean, adversarial] = [0, n].map(|from| both.slice(0, from, n));
    drop(both);
    let value = objectives::deacl([&clean, &adversarial], &taught, distillation.consistency);
    drop((clean, adversarial));
    let value = scaled(value, distillation.weight);
    output.passes.encoder.push((BnBranch::Clean, pass));
    output.forward += n as u64 + passes + 2 * n as u64;
    output.backward += passes + 2 * n as u64;
    add_gradient(net.model, value, output)
}

/// What is learned from clusters of the teacher's representations, whose gradient is added: see [`PseudoLabels`].
pub(super) fn name(work: &Work<'_>, labels: &PseudoLabels, x: &Tensor, output: &mut StepOutput) -> Tensor {
    let Work { net, input, method, .. } = work;
    let n = x.shape()[0] as u64;
    let sets = labels.clusters.len();
    let first = net.model.heads.classifiers.len() - input.clusters.len();
    let branch = method.adversary.as_ref().map_or(BnBranch::Clean, |adversary| adversary.branch);
    let mut still = net.model.heads.clone();
    detach(&mut still);
    let frozen = net.model.encoder.inference_branch(branch);
    let mean = |classifiers: &[Classifier], h: &Tensor| {
        let losses = classifiers[first..][..sets].iter().zip(input.clusters);
        let losses =
            losses.map(|(classifier, labels)| objectives::cross_entropy(&classifier.logits(h), labels));
        let sum = losses.reduce(|sum, loss| &sum + &loss).expect("there is a set of clusters");
        scaled(sum, 1.0 / sets as f64)
    };
    let start = input.starts.pseudo_labels.as_ref().expect("the attack on pseudo-labels begins somewhere");
    let (moved, passes) = ascend(x, &|u| mean(&still.classifiers, &frozen.forward(u)), &labels.attack, start);
    let mut pass = ForwardContext::train().branch(branch);
    let value = mean(&net.model.heads.classifiers, &net.model.encoder.forward(&moved, &mut pass));
    let value = scaled(value, labels.weight);
    output.passes.encoder.push((branch, pass));
    output.forward += passes + n;
    output.backward += passes + n;
    add_gradient(net.model, value, output)
}
