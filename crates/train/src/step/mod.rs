//! Losses and gradients of one step.

mod attack;
mod compare;
mod numbers;
mod regularize;
mod teach;
mod terms;

use crate::memory::Memory;
use crate::method::{Method, Plan};
use crate::model::{Embedded, Model};
use crate::momentum::Slow;
use attack::attack;
use compare::{Side, compare};
pub(crate) use numbers::Health;
use numbers::Values;
use tarrl_encoders::{Branch, Frozen, Pass, parameters};
use tarrl_objectives as objectives;
use tarrl_tensor::{Array, Key, Tensor, grad_once};
use terms::{Row, Term, terms};

/// The networks of a training.
#[derive(Clone, Copy)]
pub(crate) struct Networks<'a> {
    /// What is trained, with tracked parameters.
    pub(crate) model: &'a Model,
    /// What follows it.
    pub(crate) slow: Option<&'a Slow>,
    /// What it learns from.
    pub(crate) teacher: Option<&'a Frozen>,
}

/// What a step works on.
pub(crate) struct StepInput<'a> {
    /// The views of [`Method::all_views`], each `(n, h, w, c)` in [0, 1].
    pub(crate) views: &'a [Tensor],
    /// U32 `(n)`: the classes of the images, for objectives of labels.
    pub(crate) labels: &'a Array,
    /// U32 `(n)`: their clusters, for each set.
    pub(crate) clusters: &'a [Array],
    /// What the objective remembers.
    pub(crate) memory: &'a Memory,
    /// Of the step, for objectives that draw.
    pub(crate) key: Key,
    /// How far the stairs of the strength have led, in `[0, 1]`.
    pub(crate) share: f64,
    /// ε of the inner maximiser as a share of its final value.
    pub(crate) epsilon_scale: f64,
    /// ε of the certified term as a share of its final value.
    pub(crate) certified_scale: f64,
    /// One key for each image, for the attacks.
    pub(crate) keys: &'a [Key],
}

/// What a step found.
#[derive(Default)]
pub(crate) struct StepOutput {
    /// The objective, on attacked views too where the method says so.
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
    /// The passes whose statistics the encoder absorbs, with their branch.
    pub(crate) encoder_passes: Vec<(Branch, Pass)>,
    /// The passes whose statistics the heads absorb.
    pub(crate) head_passes: Vec<Pass>,
    /// Representations `(v·n, d)` of the objective's first term, a constant.
    pub(crate) features: Option<Tensor>,
    /// What the objective compares of them `(v·n, out)`, a constant.
    pub(crate) embeddings: Option<Tensor>,
    /// What the momentum network said of the views, each `(n, out)`: constants.
    pub(crate) slow_targets: Vec<Tensor>,
    /// The pass whose statistics the momentum network absorbs.
    pub(crate) slow_pass: Option<Pass>,
    /// How gradients and representations are.
    pub(crate) health: Health,
    /// Images that went forward through an encoder.
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
/// All views that share statistics go through the network together, so that batch norm cannot tell them
/// apart. The anchor and its attacked points go through together as well, for the same reason, but apart
/// from the views: their statistics must not enter the objective, nor those of strong views the regularizer.
///
/// The encoder's running statistics are those of the pass that `R` is measured on, and of the views only
/// without a regularizer. Heads, attacks and `R` after training see clean and attacked images through the
/// running statistics. Where those were of strong views, `R` was small in training and larger after it: on
/// 5,000 images (ConvSmall at half width, 8 epochs, one seed) accuracy under PGD-20 at ε = 0.1 was 13.5 %
/// with the statistics of the views, 15.0 % with both in turn, 12.3 % with all in one pass and 17.2 % with
/// those of anchors and attacked points; `R` through running statistics in training made nothing robust.
pub(crate) fn step(net: &Networks<'_>, method: &Method, input: &StepInput<'_>) -> StepOutput {
    let (mut output, mut values) = (StepOutput::default(), Values::default());
    let mut work = Work { net: *net, method, input, plan: Plan::new(method), slow: Vec::new() };
    work.slow = slow_targets(&work, &mut output);
    let attacked = match &method.adversary {
        Some(adversary) => attack(&work, adversary, &mut output),
        None => Vec::new(),
    };
    // The recording of a term goes before that of the next comes: half the memory.
    for term in terms(&work, &attacked) {
        values.objective.push(add_objective(&work, &term, &mut output));
    }
    let Plan { distilled, labelled, regularizer, certified, .. } = work.plan;
    if let (Some(distillation), Some(view)) = (&method.distillation, distilled) {
        values.objective.push(teach::distil(&work, distillation, &input.views[view], &mut output));
    }
    if let (Some(labels), Some(view)) = (&method.pseudo_labels, labelled) {
        values.objective.push(teach::name(&work, labels, &input.views[view], &mut output));
    }
    if let (Some(regularizer), Some(anchor)) = (&method.regularizer, regularizer) {
        values.regularizer =
            Some(regularize::regularize(&work, regularizer, &input.views[anchor], &mut output));
    }
    if let (Some(term), Some(anchor)) = (&method.certified, certified) {
        values.certified = Some(regularize::certify(&work, term, &input.views[anchor], &mut output));
    }
    numbers::read(values, &mut output);
    output
}

/// A step under way.
struct Work<'a> {
    net: Networks<'a>,
    method: &'a Method,
    input: &'a StepInput<'a>,
    plan: Plan,
    /// What the momentum network says of the images of the plan, where the objective asks.
    slow: Vec<Option<Tensor>>,
}

impl Work<'_> {
    /// View `part` of several that went through the networks together, made of the image at `place` in the plan.
    fn side(&self, embedded: &Embedded, part: usize, place: usize) -> Side {
        let slow = self.slow.get(place).cloned().flatten();
        Side { own: embedded.part(part, self.input.keys.len()), slow }
    }

    /// Images of the plan, one below the other.
    fn images(&self, places: &[usize]) -> Tensor {
        together(places.iter().map(|&place| &self.input.views[place]))
    }
}

/// The value of a term of the objective, whose gradient is added.
fn add_objective(work: &Work<'_>, term: &Term<'_>, output: &mut StepOutput) -> Tensor {
    let sides = forward(work, &term.rows, output);
    let values = term.parts.iter().map(|(rows, factor)| {
        let chosen: Vec<&Side> = rows.iter().map(|&row| &sides[row]).collect();
        scaled(compare(work, &chosen), *factor)
    });
    let mut value = values.reduce(|sum, value| &sum + &value).expect("a term has a part");
    if let (Some(rows), Some(invariance)) = (term.invariance, &work.method.invariance) {
        let z = rows.map(|row| sides[row].own.online.as_ref().expect("views are projected"));
        let [first, second, moved_first, moved_second, image] = z;
        let (views, moved) = ([first, second], [moved_first, moved_second]);
        let standard = objectives::invariance(views, image, invariance.temperature);
        let adversarial = objectives::adversarial_invariance(moved, views, image, invariance.temperature);
        value = &value + &scaled(standard, invariance.standard);
        value = &value + &scaled(adversarial, invariance.adversarial);
    }
    drop(sides);
    add_gradient(work.net.model, value, output)
}

/// All rows through the network in training, one pass for each group.
fn forward(work: &Work<'_>, rows: &[Row<'_>], output: &mut StepOutput) -> Vec<Side> {
    let mut sides: Vec<Option<Side>> = rows.iter().map(|_| None).collect();
    for group in [0, 1] {
        let places: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].group == group).collect();
        let Some(&first) = places.first() else { continue };
        let mut pass = Pass::train().branch(rows[first].branch);
        let embedded = work.net.model.embed(&together(places.iter().map(|&i| rows[i].image)), &mut pass);
        for (part, &place) in places.iter().enumerate() {
            sides[place] = Some(work.side(&embedded, part, rows[place].source));
        }
        if output.features.is_none() {
            output.features = Some(embedded.h.detach());
            output.embeddings = embedded.online.map(|z| z.detach());
        }
        output.encoder_passes.push((rows[first].branch, pass.clone()));
        output.head_passes.push(pass);
    }
    let images = (rows.len() * work.input.keys.len()) as u64;
    output.forward += images;
    output.backward += images;
    sides.into_iter().flatten().collect()
}

/// What the momentum network says of the images of the objective, in the places of the plan.
fn slow_targets(work: &Work<'_>, output: &mut StepOutput) -> Vec<Option<Tensor>> {
    let (Some(slow), plan) = (work.net.slow, &work.plan) else { return Vec::new() };
    let mut places: Vec<usize> = (0..plan.views).chain(plan.attacked.iter().copied()).collect();
    places.sort_unstable();
    places.dedup();
    let n = work.input.keys.len();
    let (embedded, pass) = slow.embed(&work.images(&places));
    output.slow_pass = Some(pass);
    output.forward += (places.len() * n) as u64;
    let mut found = vec![None; plan.images.len()];
    for (part, &place) in places.iter().enumerate() {
        found[place] = embedded.part(part, n).target;
    }
    output.slow_targets = found[..plan.views].iter().flatten().cloned().collect();
    found
}

/// Adds the gradient of a part of the loss in all parameters; returns the part, a constant. Nobody else may hold its
/// recording.
fn add_gradient(model: &Model, value: Tensor, output: &mut StepOutput) -> Tensor {
    let (trained, constant) = (parameters(model), value.detach());
    accumulate(grad_once(value, &trained.iter().collect::<Vec<_>>()), 1.0, &mut output.gradients);
    constant
}

/// Adds `weight` times gradients of the first parameters to the sum.
fn accumulate(gradients: Vec<Tensor>, weight: f64, sum: &mut Vec<Tensor>) {
    if sum.is_empty() {
        *sum = gradients;
        return;
    }
    for (sum, g) in sum.iter_mut().zip(&gradients) {
        *sum = if weight == 1.0 { &*sum + g } else { &*sum + &(g * weight) };
    }
}

/// Images one below the other.
fn together<'a>(images: impl Iterator<Item = &'a Tensor>) -> Tensor {
    let images: Vec<&Tensor> = images.collect();
    if let [image] = images[..] { image.clone() } else { Tensor::concat(&images, 0) }
}

fn scaled(value: Tensor, factor: f64) -> Tensor {
    if factor == 1.0 { value } else { value.mul_scalar(factor) }
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
            projector: ProjectorConfig { hidden: 8, out: 4, ..ProjectorConfig::default() },
            ..toml::from_str(&text).unwrap()
        }
    }

    fn output(method: &Method, views: &[usize]) -> StepOutput {
        let device = cpu();
        let encoder = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
        let config = TrainConfig { encoder, ..TrainConfig::new(method.clone()) };
        let mut model = Model::new(&config, &method.classifiers(3), &device);
        track(&mut model);
        let keys: Vec<Key> = (0..6usize).map(|i| Key::new(2).fold(i)).collect();
        let view = |&view: &usize| {
            let keys: Vec<Key> = keys.iter().map(|key| key.fold(view)).collect();
            Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32)
        };
        let views: Vec<Tensor> = views.iter().map(view).collect();
        let input = StepInput {
            views: &views,
            labels: &Array::new(&device, [6], &[0u32, 1, 2, 0, 1, 2]),
            clusters: &[],
            memory: &Memory::new(&config, &device),
            key: Key::new(4),
            share: 0.0,
            epsilon_scale: 1.0,
            certified_scale: 1.0,
            keys: &keys,
        };
        step(&Networks { model: &model, slow: None, teacher: None }, method, &input)
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
        assert_eq!(three.embeddings.unwrap().shape()[..], [18, 4]);
    }
}
