//! Losses and gradients of one step.

mod attack;
mod compare;
mod numbers;
mod regularize;
mod repeat;
mod starts;
mod teach;
mod terms;

use crate::memory::Memory;
use crate::method::{Method, Plan};
use crate::model::{Embedded, Model};
use crate::momentum::Slow;
use attack::attack;
use compare::{Side, compare};
pub(crate) use numbers::Numbers;
use numbers::Values;
pub(crate) use repeat::Repeated;
pub(crate) use starts::Starts;
use tarrl_encoders::{
    BATCH_NORM_MOMENTUM, BnBranch, ForwardContext, InferenceEncoder, Module, buffers, parameters,
};
use tarrl_objectives as objectives;
use tarrl_tensor::{Array, Key, Tensor, backward};
use terms::{Row, Term, terms};

/// The networks of a training.
#[derive(Clone, Copy)]
pub(crate) struct Networks<'a> {
    /// What is trained, with tracked parameters.
    pub(crate) model: &'a Model,
    /// What follows it.
    pub(crate) slow: Option<&'a Slow>,
    /// What it learns from.
    pub(crate) teacher: Option<&'a InferenceEncoder>,
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
    /// ε of the inner maximizer as a share of its final value.
    pub(crate) epsilon_scale: f64,
    /// ε of the certified term as a share of its final value.
    pub(crate) certified_scale: f64,
    /// One key for each image, for the attacks.
    pub(crate) keys: &'a [Key],
    /// Where the attacks begin.
    pub(crate) starts: &'a Starts,
}

/// What a step found. Nothing of it has been read from the device.
#[derive(Clone, Default)]
pub(crate) struct StepOutput {
    /// λ, or 0 without a regularizer.
    pub(crate) weight: f64,
    /// The factor of the certified term, or 0 without one.
    pub(crate) certified_weight: f64,
    /// Of the whole loss, in the order of the model's parameters.
    pub(crate) gradients: Vec<Tensor>,
    /// The model's buffers after the step, with the statistics that it absorbed.
    pub(crate) buffers: Vec<Tensor>,
    /// The same of the momentum network.
    pub(crate) slow_buffers: Vec<Tensor>,
    /// Representations `(v·n, d)` of the objective's first term, a constant.
    pub(crate) features: Option<Tensor>,
    /// What the objective compares of them `(v·n, out)`, a constant.
    pub(crate) embeddings: Option<Tensor>,
    /// What the momentum network said of the views, each `(n, out)`: constants.
    pub(crate) slow_targets: Vec<Tensor>,
    /// What the terms are worth and how gradients and representations are, to be [read](StepOutput::read).
    values: Values,
    /// Images that went forward through an encoder.
    pub(crate) forward: u64,
    /// Images that a gradient went back through.
    pub(crate) backward: u64,
    passes: Passes,
}

/// Ways through the networks whose statistics are to be absorbed.
#[derive(Clone, Default)]
struct Passes {
    /// By the encoder, in one of its branches.
    encoder: Vec<(BnBranch, ForwardContext)>,
    /// By the heads.
    heads: Vec<ForwardContext>,
    /// By the momentum network.
    slow: Option<ForwardContext>,
}

impl StepOutput {
    /// Replaces every array by what `f` makes of it, in a fixed order.
    fn exchange(&mut self, f: &mut dyn FnMut(&Array) -> Array) {
        let tensors = (self.gradients.iter_mut())
            .chain(&mut self.buffers)
            .chain(&mut self.slow_buffers)
            .chain(&mut self.features)
            .chain(&mut self.embeddings)
            .chain(&mut self.slow_targets)
            .chain(&mut self.values.line);
        tensors.for_each(|tensor| *tensor = f(tensor.array()).into());
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
    let (mut output, mut values) = (StepOutput::default(), numbers::Terms::default());
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
    let Plan { distilled, labeled, regularizer, certified, .. } = work.plan;
    if let (Some(distillation), Some(view)) = (&method.distillation, distilled) {
        values.objective.push(teach::distil(&work, distillation, &input.views[view], &mut output));
    }
    if let (Some(labels), Some(view)) = (&method.pseudo_labels, labeled) {
        values.objective.push(teach::name(&work, labels, &input.views[view], &mut output));
    }
    if let (Some(regularizer), Some(anchor)) = (&method.regularizer, regularizer) {
        values.regularizer =
            Some(regularize::regularize(&work, regularizer, &input.views[anchor], &mut output));
    }
    if let (Some(term), Some(anchor)) = (&method.certified, certified) {
        values.certified = Some(regularize::certify(&work, term, &input.views[anchor], &mut output));
    }
    output.values = Values::of(values, &output);
    update_running_stats(net, &mut output);
    output
}

/// Running statistics after the passes of the step.
fn update_running_stats(net: &Networks<'_>, output: &mut StepOutput) {
    let passes = std::mem::take(&mut output.passes);
    let mut model = net.model.clone();
    for (_, pass) in &passes.encoder {
        model.encoder.update_running_stats(pass, BATCH_NORM_MOMENTUM);
    }
    for pass in &passes.heads {
        model.heads.update_running_stats(pass, BATCH_NORM_MOMENTUM);
    }
    output.buffers = buffers(&model);
    if let Some((mut slow, pass)) = net.slow.cloned().zip(passes.slow) {
        slow.update_running_stats(&pass);
        output.slow_buffers = buffers(slow.module());
    }
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
        let mut pass = ForwardContext::train().branch(rows[first].branch);
        let embedded = work.net.model.embed(&together(places.iter().map(|&i| rows[i].image)), &mut pass);
        for (part, &place) in places.iter().enumerate() {
            sides[place] = Some(work.side(&embedded, part, rows[place].source));
        }
        if output.features.is_none() {
            output.features = Some(embedded.h.detach());
            output.embeddings = embedded.online.map(|z| z.detach());
        }
        output.passes.encoder.push((rows[first].branch, pass.clone()));
        output.passes.heads.push(pass);
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
    output.passes.slow = Some(pass);
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
    accumulate(backward(value, &trained.iter().collect::<Vec<_>>()), 1.0, &mut output.gradients);
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
        output_of(method, views, &mut |net, input| step(net, method, input))
    }

    fn output_of(
        method: &Method,
        views: &[usize],
        step: &mut dyn FnMut(&Networks<'_>, &StepInput<'_>) -> StepOutput,
    ) -> StepOutput {
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
        let plan = Plan::new(method);
        let input = StepInput {
            starts: &Starts::draw(method, &plan, &views, 1.0, &keys),
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
        let slow = method.network.momentum.map(|_| Slow::new(&model));
        step(&Networks { model: &model, slow: slow.as_ref(), teacher: None }, &input)
    }

    /// The attack does not depend on λ, so that the gradient is linear in it, and the projector's is constant.
    #[test]
    fn the_gradient_is_that_of_objective_plus_weighted_regularizer() {
        let [plain, zero, one, three] =
            [None, Some(0.0), Some(1.0), Some(3.0)].map(|weight| output(&method(2, weight), &[0, 1, 2]));
        let [of_plain, of_one, of_three] = [&plain, &one, &three].map(StepOutput::read);
        assert_eq!((of_plain.regularizer, plain.weight), (0.0, 0.0));
        assert!(of_three.regularizer > 0.0 && of_three.regularizer == of_one.regularizer);
        assert_eq!(of_plain.objective, of_three.objective);
        assert_eq!(of_three.loss, of_three.objective + 3.0 * of_three.regularizer);
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

    /// Every inner maximizer of a file trains through batch norm.
    #[test]
    fn a_jacobian_is_differentiated_twice() {
        let mut method = method(2, None);
        let text = "divergence = 'l2'\nscale = 'variance'\ninner = { kind = 'jacobian', epsilon = 0.1 }";
        method.regularizer = Some(toml::from_str(text).unwrap());
        let found = output(&method, &[0, 1, 2]);
        let regularizer = found.read().regularizer;
        assert!(regularizer > 0.0 && regularizer.is_finite());
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
        let objective = |found: &StepOutput| found.read().objective;
        assert!((objective(&two) - objective(&swapped)).abs() < 1e-5);
        let three = output(&method(3, None), &[0, 1, 2]);
        let rotated = output(&method(3, None), &[1, 2, 0]);
        assert!((objective(&three) - objective(&rotated)).abs() < 1e-5);
        assert_eq!((two.forward, three.forward), (12, 18));
        assert_eq!(three.embeddings.unwrap().shape()[..], [18, 4]);
    }

    /// A step as a function of arrays finds what the step itself finds, to the bit and in the same places.
    #[test]
    fn repeated_steps_are_steps() {
        let attack = "{ kind = 'pgd', epsilon = 0.1, steps = 2 }";
        let mut adversary = method(2, Some(2.0));
        adversary.adversary = Some(toml::from_str(&format!("enters = 'second'\nattack = {attack}")).unwrap());
        let mut byol = method(2, None);
        byol.objective = Some(toml::from_str("kind = 'byol'").unwrap());
        byol.network = toml::from_str("predictor = { hidden = 8 }\nmomentum = { start = 0.9 }").unwrap();
        for method in [method(2, None), adversary, byol] {
            let mut repeated = Repeated::new();
            let mut again =
                || output_of(&method, &[0, 1, 2], &mut |net, input| repeated.step(net, &method, input));
            let (first, second) = (again(), again());
            let plain = output(&method, &[0, 1, 2]);
            let arrays = |found: &StepOutput| {
                let mut arrays = Vec::new();
                found.clone().exchange(&mut |array| {
                    arrays.push((*array.shape(), array.to_f64()));
                    array.clone()
                });
                arrays
            };
            assert!(arrays(&first) == arrays(&plain) && arrays(&second) == arrays(&plain));
            assert_eq!(second.read(), plain.read());
            assert_eq!((second.forward, second.backward), (plain.forward, plain.backward));
        }
    }
}
