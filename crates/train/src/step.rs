//! Losses and gradients of one step.

use crate::certified::Certified;
use crate::method::Method;
use crate::model::Model;
use std::cell::RefCell;
use tarrl_bound::{Regularizer, TermInput};
use tarrl_encoders::{Pass, parameters};
use tarrl_tensor::{Key, Tensor, grad_once};

/// What a step works on.
pub(crate) struct StepInput<'a> {
    /// The views of [`Method::all_views`], each `(n, h, w, c)` in [0, 1].
    pub(crate) views: &'a [Tensor],
    /// ε of the inner maximiser as a share of its final value.
    pub(crate) epsilon_scale: f64,
    /// ε of the certified term as a share of its final value.
    pub(crate) certified_scale: f64,
    /// One key for each image, for the inner maximiser.
    pub(crate) keys: &'a [Key],
}

/// What a step found.
pub(crate) struct StepOutput {
    /// The self-supervised loss.
    pub(crate) objective: f64,
    /// R, unweighted.
    pub(crate) regularizer: f64,
    /// λ, or 0 without a regularizer.
    pub(crate) weight: f64,
    /// The certified term, unweighted.
    pub(crate) certified: f64,
    /// Its factor, or 0 without one.
    pub(crate) certified_weight: f64,
    /// Of the whole loss, in the order of the model's parameters.
    pub(crate) gradients: Vec<Tensor>,
    /// The pass whose statistics the encoder absorbs.
    pub(crate) encoder_pass: Pass,
    /// The pass whose statistics the projector absorbs.
    pub(crate) projector_pass: Pass,
    /// Representations `(v·n, d)` of the objective's views, a constant.
    pub(crate) features: Tensor,
    /// Their embeddings `(v·n, out)`, a constant.
    pub(crate) embeddings: Tensor,
    /// Images that went forward through the encoder.
    pub(crate) forward: u64,
    /// Images that a gradient went back through.
    pub(crate) backward: u64,
}

impl StepOutput {
    /// What is minimised.
    pub(crate) fn loss(&self) -> f64 {
        self.objective + self.weight * self.regularizer + self.certified_weight * self.certified
    }
}

/// Losses and gradients of a model whose parameters are tracked.
///
/// All views of the objective go through the network together, so that batch norm cannot tell them
/// apart. The anchor and its attacked points go through together as well, for the same reason, but apart
/// from the views: their statistics must not enter the objective, nor those of strong views the regularizer.
///
/// The encoder's running statistics are those of the pass that `R` is measured on, and of the views only
/// without a regularizer. Heads, attacks and `R` after training see clean and attacked images through the
/// running statistics. Where those were of strong views, `R` was small in training and larger after it: on
/// 5,000 images (ConvSmall at half width, 8 epochs, one seed) accuracy under PGD-20 at ε = 0.1 was 13.5 %
/// with the statistics of the views, 15.0 % with both in turn, 12.3 % with all in one pass and 17.2 % with
/// those of anchors and attacked points; `R` through running statistics in training made nothing robust.
pub(crate) fn step(model: &Model, method: &Method, input: &StepInput<'_>) -> StepOutput {
    let trained = parameters(model);
    let trained: Vec<&Tensor> = trained.iter().collect();
    let views: Vec<&Tensor> = input.views[..method.views.len()].iter().collect();
    let images = (views.len() * views[0].shape()[0]) as u64;

    let mut pass = Pass::train();
    let h = model.encoder.forward(&Tensor::concat(&views, 0), &mut pass); // (v·n, d)
    let z = model.projector.forward(&h, &mut pass); // (v·n, out)
    let objective = over_pairs(method, &z, views.len());
    let mut output = StepOutput {
        objective: objective.item(),
        regularizer: 0.0,
        weight: 0.0,
        certified: 0.0,
        certified_weight: 0.0,
        gradients: Vec::new(),
        encoder_pass: pass.clone(),
        projector_pass: pass,
        features: h.detach(),
        embeddings: z.detach(),
        forward: images,
        backward: images,
    };
    // The recording of the objective goes before that of the regularizer comes: half the memory.
    drop((h, z));
    output.gradients = grad_once(objective, &trained);

    let [attacked, certified] = method.anchor_views().map(|view| view.map(|view| &input.views[view]));
    if let (Some(regularizer), Some(anchor)) = (&method.regularizer, attacked) {
        regularize(model, regularizer, anchor, input, &mut output);
    }
    if let (Some(term), Some(anchor)) = (&method.certified, certified) {
        certify(model, term, anchor, input, &mut output);
    }
    output
}

/// The mean objective over all pairs of views of the embeddings `z` `(v·n, out)`.
fn over_pairs(method: &Method, z: &Tensor, views: usize) -> Tensor {
    let n = z.shape()[0] / views;
    let part = |view: usize| z.slice(0, view * n, n);
    let pairs = (0..views).flat_map(|i| (i + 1..views).map(move |j| (i, j)));
    let losses: Vec<Tensor> = pairs.map(|(i, j)| method.objective.loss(&part(i), &part(j))).collect();
    let sum = losses[1..].iter().fold(losses[0].clone(), |sum, loss| &sum + loss);
    if losses.len() == 1 { sum } else { &sum * (1.0 / losses.len() as f64) }
}

/// Adds λ R and its gradient: x' is found on the encoder at rest, then x and x' are seen in training together.
fn regularize(
    model: &Model,
    regularizer: &Regularizer,
    anchor: &Tensor,
    input: &StepInput<'_>,
    output: &mut StepOutput,
) {
    let frozen = model.encoder.frozen();
    // The closure is called where nothing else can write to the pass.
    let pass = RefCell::new(Pass::train());
    let term = regularizer.term(&TermInput {
        frozen: &|u| frozen.forward(u),
        trained: &|u| model.encoder.forward(u, &mut pass.borrow_mut()),
        x: anchor,
        epsilon_scale: input.epsilon_scale,
        keys: input.keys,
    });
    output.regularizer = term.value.item();
    add_gradient(model, term.value, regularizer.weight(), output);
    output.weight = regularizer.weight();
    output.encoder_pass = pass.into_inner();
    output.forward += term.forward;
    output.backward += term.backward;
}

/// Adds the certified term and its gradient. The encoder takes its running statistics from this pass: those of clean
/// images, which the bounds of the finished encoder are computed with.
fn certify(model: &Model, term: &Certified, anchor: &Tensor, input: &StepInput<'_>, output: &mut StepOutput) {
    let mut pass = Pass::train();
    let value = term.value(&model.encoder, anchor, input.certified_scale, &mut pass);
    output.certified = value.item();
    add_gradient(model, value, term.weight, output);
    output.certified_weight = term.weight;
    output.encoder_pass = pass;
    // The clean images, the centres and the radii.
    output.forward += 3 * anchor.shape()[0] as u64;
    output.backward += 3 * anchor.shape()[0] as u64;
}

/// Adds `weight` times the gradient of a term of the encoder alone.
fn add_gradient(model: &Model, term: Tensor, weight: f64, output: &mut StepOutput) {
    let trained = parameters(&model.encoder);
    let gradients = grad_once(term, &trained.iter().collect::<Vec<_>>());
    // The encoder's parameters are the first of the model's.
    for (sum, g) in output.gradients.iter_mut().zip(&gradients) {
        *sum = &*sum + &(g * weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train_config::TrainConfig;
    use tarrl_encoders::{EncoderConfig, ProjectorConfig, track};
    use tarrl_tensor::{DType, Random, cpu};

    fn method(views: usize, weight: Option<f64>) -> Method {
        let regularizer = weight.map_or(String::new(), |w| format!("[regularizer]\nweight = {w:?}\n"));
        let views = vec!["strong"; views];
        let text =
            format!("title = 't'\nviews = {views:?}\nobjective = {{ kind = 'nt-xent' }}\n{regularizer}");
        Method {
            projector: ProjectorConfig { hidden: 8, out: 4, layers: 2 },
            ..toml::from_str(&text).unwrap()
        }
    }

    fn output(method: &Method, views: &[usize]) -> StepOutput {
        let device = cpu();
        let encoder = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
        let mut model = Model::new(&TrainConfig { encoder, ..TrainConfig::new(method.clone()) }, &device);
        track(&mut model);
        let keys: Vec<Key> = (0..6usize).map(|i| Key::new(2).fold(i)).collect();
        let view = |&view: &usize| {
            let keys: Vec<Key> = keys.iter().map(|key| key.fold(view)).collect();
            Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32)
        };
        let views: Vec<Tensor> = views.iter().map(view).collect();
        step(
            &model,
            method,
            &StepInput { views: &views, epsilon_scale: 1.0, certified_scale: 1.0, keys: &keys },
        )
    }

    /// The attack does not depend on λ, so that the gradient is linear in it, and the projector's is constant.
    #[test]
    fn the_gradient_is_that_of_objective_plus_weighted_regularizer() {
        let [plain, zero, one, three] =
            [None, Some(0.0), Some(1.0), Some(3.0)].map(|weight| output(&method(2, weight), &[0, 1, 2]));
        assert_eq!((plain.regularizer, plain.weight), (0.0, 0.0));
        assert!(three.regularizer > 0.0 && three.regularizer == one.regularizer);
        assert_eq!(plain.objective, three.objective);
        let parameters = plain.gradients.len();
        // The projector's, at the end: two linear maps, the second with a bias, and a batch norm of two.
        let encoder = parameters - 5;
        let mut moved = 0;
        for i in 0..parameters {
            let [p, z, a, b] = [&plain, &zero, &one, &three].map(|o| o.gradients[i].array().to_f64());
            let scale = b.iter().fold(1e-6, |m: f64, v| m.max(v.abs()));
            for j in 0..p.len() {
                assert!((p[j] - z[j]).abs() <= 1e-6 * scale);
                // Three roundings of f32 on values up to `scale`.
                assert!((b[j] - p[j] - 3.0 * (a[j] - p[j])).abs() <= 1e-5 * scale, "parameter {i}[{j}]");
            }
            moved += usize::from(a != p);
            if i >= encoder {
                assert_eq!(p, b, "the regularizer has no part in the projector");
            }
        }
        assert!(moved > 4, "the regularizer moved {moved} of {parameters} parameters");
    }

    /// Every inner maximiser of a file trains through batch norm.
    #[test]
    fn a_jacobian_is_differentiated_twice() {
        let mut method = method(2, None);
        let text = "divergence = 'l2'\nscale = 'variance'\ninner = { kind = 'jacobian', epsilon = 0.1 }";
        method.regularizer = Some(toml::from_str(text).unwrap());
        let found = output(&method, &[0, 1, 2]);
        assert!(found.regularizer > 0.0 && found.regularizer.is_finite());
        // Views of two, the anchor; then back through the views, for the Jacobian, and through both its passes.
        assert_eq!((found.forward, found.backward), (12 + 6, 12 + 6 + 12));
        let plain = output(&self::method(2, None), &[0, 1, 2]);
        let moved = found.gradients.iter().zip(&plain.gradients);
        assert!(moved.filter(|(a, b)| a.array().to_f64() != b.array().to_f64()).count() > 4);
        assert!(found.gradients.iter().all(|g| g.array().to_f64().iter().all(|v| v.is_finite())));
    }

    /// Batch norm sees all views together, so that swapping two of them changes only the order of rounding.
    #[test]
    fn views_are_exchangeable_and_pairs_are_averaged() {
        let two = output(&method(2, None), &[0, 1]);
        let swapped = output(&method(2, None), &[1, 0]);
        assert!((two.objective - swapped.objective).abs() < 1e-5, "{} {}", two.objective, swapped.objective);
        let three = output(&method(3, None), &[0, 1, 2]);
        let rotated = output(&method(3, None), &[1, 2, 0]);
        assert!((three.objective - rotated.objective).abs() < 1e-5);
        assert_eq!((two.forward, three.forward), (12, 18));
        assert_eq!(three.embeddings.shape()[..], [18, 4]);
    }
}
