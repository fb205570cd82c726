use super::*;
use crate::ema_model::EmaModel;
use crate::method::{Method, NoiseConfig, NoiseUnit, Plan, SpectralNorm};
use crate::model::{Model, fixed_projector};
use crate::train_config::TrainConfig;
use tarrl_encoders::{
    BnBranch, Encoder, EncoderConfig, ForwardContext, InferenceEncoder, ProjectorConfig, parameters, track,
};
use tarrl_tensor::{Array, DType, Key, Random, Tensor, backward, cpu};

fn method(views: usize, weight: Option<f64>) -> Method {
    let regularizer = weight.map_or(String::new(), |w| format!("[regularizer]\nweight = {w:?}\n"));
    let views = vec!["strong"; views];
    let text = format!("title = 't'\nviews = {views:?}\nobjective = {{ kind = 'nt-xent' }}\n{regularizer}");
    Method {
        projector: ProjectorConfig { hidden: 8, out: 4, ..ProjectorConfig::default() },
        ..toml::from_str(&text).unwrap()
    }
}

fn output(method: &Method, views: &[usize]) -> StepOutput {
    output_of(method, views, &mut |net, input| compute_step(net, method, input))
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
        initial_points: &InitialPoints::sample(method, &plan, &views, 1.0, &keys, model.encoder.dim()),
        views: &views,
        labels: &Array::new(&device, [6], &[0u32, 1, 2, 0, 1, 2]),
        clusters: &[],
        state: None,
        key: Key::new(4),
        share: 0.0,
        epsilon_scale: 1.0,
        weight_scale: 1.0,
        certified_scale: 1.0,
        keys: &keys,
        batch: None,
    };
    let ema = method.network.momentum.map(|_| EmaModel::new(&model));
    let teacher = method.teacher.as_ref().map(|_| teacher(&config));
    let projector = fixed_projector(&config, model.encoder.dim(), &device);
    let networks = Networks {
        model: &model,
        ema: ema.as_ref(),
        teacher: teacher.as_ref(),
        projector: projector.as_ref(),
    };
    step(&networks, &input)
}

fn teacher(config: &TrainConfig) -> InferenceEncoder {
    Encoder::new(&config.encoder, &cpu(), Key::new(9)).inference()
}

/// The attack does not depend on λ, so that the gradient is linear in it, and the projector's is constant.
#[test]
fn gradients_are_linear_in_the_weight_of_the_regularizer() {
    let [plain, zero, one, three] =
        [None, Some(0.0), Some(1.0), Some(3.0)].map(|weight| output(&method(2, weight), &[0, 1, 2]));
    let [of_plain, of_one, of_three] = [&plain, &one, &three].map(StepOutput::read);
    assert_eq!((of_plain.regularizer, of_plain.loss), (0.0, of_plain.objective));
    assert!(of_three.regularizer > 0.0 && of_three.regularizer == of_one.regularizer);
    assert_eq!(of_plain.objective, of_three.objective);
    assert_eq!(of_three.loss, of_three.objective + 3.0 * of_three.regularizer);
    let parameters = plain.gradients.len();
    // The projector's, at the end: two linear maps, the second with a bias, and a batch norm of two.
    let encoder = parameters - 5;
    for i in 0..parameters {
        let [p, z, a, b] = [&plain, &zero, &one, &three].map(|o| o.gradients[i].array().to_f64());
        let scale = b.iter().fold(1e-6, |m: f64, v| m.max(v.abs()));
        for j in 0..p.len() {
            assert!((p[j] - z[j]).abs() <= 1e-6 * scale);
            // Three roundings of f32 on values up to `scale`.
            assert!((b[j] - p[j] - 3.0 * (a[j] - p[j])).abs() <= 1e-5 * scale, "parameter {i}[{j}]");
        }
        // R is a function of every parameter of the encoder and of none of the projector.
        assert_eq!(
            a != p,
            i < encoder,
            "parameter {i} of {parameters}, the encoder's are the first {encoder}"
        );
    }
}

/// Every inner maximizer of a file trains through batch norm.
#[test]
fn the_jacobian_maximizer_gives_finite_second_order_gradients() {
    let mut method = method(2, None);
    let text = "divergence = 'l2'\nscale = 'variance'\ninner = { kind = 'jacobian', epsilon = 0.1 }";
    method.regularizer = Some(toml::from_str(text).unwrap());
    let found = output(&method, &[0, 1, 2]);
    let regularizer = found.read().regularizer;
    assert!(regularizer > 0.0 && regularizer.is_finite());
    // Views of two, the anchor; then back through the views, for the Jacobian, and through both its passes.
    assert_eq!((found.passes.forward, found.passes.backward), (12 + 6, 12 + 6 + 12));
    let plain = output(&self::method(2, None), &[0, 1, 2]);
    let differs =
        found.gradients.iter().zip(&plain.gradients).map(|(a, b)| a.array().to_f64() != b.array().to_f64());
    let differs: Vec<bool> = differs.collect();
    // As in the test above: every parameter of the encoder, none of the five of the projector.
    let encoder = differs.len() - 5;
    assert!(differs.iter().enumerate().all(|(i, &differs)| differs == (i < encoder)), "{differs:?}");
    assert!(found.gradients.iter().all(|g| g.array().to_f64().iter().all(|v| v.is_finite())));
}

/// Batch norm sees all views together, so that swapping two of them changes only the order of rounding.
#[test]
fn the_order_of_views_does_not_matter() {
    let two = output(&method(2, None), &[0, 1]);
    let swapped = output(&method(2, None), &[1, 0]);
    let objective = |found: &StepOutput| found.read().objective;
    assert!((objective(&two) - objective(&swapped)).abs() < 1e-5);
    let three = output(&method(3, None), &[0, 1, 2]);
    let rotated = output(&method(3, None), &[1, 2, 0]);
    assert!((objective(&three) - objective(&rotated)).abs() < 1e-5);
    assert_eq!((two.passes.forward, three.passes.forward), (12, 18));
    assert_eq!(three.embeddings.unwrap().shape()[..], [18, 4]);
}

/// A step as a function of arrays gives the same arrays in the same places, to the bit.
#[test]
fn captured_steps_give_the_bits_of_plain_steps() {
    let attack = "{ kind = 'pgd', epsilon = 0.1, steps = 2 }";
    let mut adversary = method(2, Some(2.0));
    adversary.adversary = Some(toml::from_str(&format!("enters = 'second'\nattack = {attack}")).unwrap());
    let mut byol = method(2, None);
    byol.objective = Some(toml::from_str("kind = 'byol'").unwrap());
    byol.network = toml::from_str("predictor = { hidden = 8 }\nmomentum = { start = 0.9 }").unwrap();
    let shared = shared("attacks = 'both'", "");
    let noise =
        Method { noise: Some(NoiseConfig { sigma: 0.5, unit: NoiseUnit::Spread }), ..adversary.clone() };
    for method in [method(2, None), adversary, byol, shared, noise, spectral(0.5), projected(0.5, 0.1)] {
        let mut captured = CapturedStep::new();
        let mut again =
            || output_of(&method, &[0, 1, 2], &mut |net, input| captured.step(net, &method, input));
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
        assert_eq!(second.passes, plain.passes);
    }
}

/// R and what is reported are of representations without noise, and the encoder learns from the objective with it.
#[test]
fn noise_is_seen_by_the_objective_alone() {
    let plain = method(2, Some(1.0));
    let noisy =
        |sigma| Method { noise: Some(NoiseConfig { sigma, unit: NoiseUnit::Spread }), ..plain.clone() };
    let of = |method: &Method| output(method, &[0, 1, 2]);
    let [without, faint, strong, again] = [of(&plain), of(&noisy(1e-6)), of(&noisy(1.0)), of(&noisy(1.0))];
    let [a, b, c] = [&without, &faint, &strong].map(StepOutput::read);
    let features = |found: &StepOutput| found.features.as_ref().unwrap().to_vec::<f32>();
    assert!(features(&without) == features(&strong) && a.regularizer == c.regularizer);
    assert!(a.feature_spread == c.feature_spread);
    assert!(
        (a.objective - b.objective).abs() < 1e-4 && (a.objective - c.objective).abs() > 1e-3,
        "{a:?} {c:?}"
    );
    assert_eq!(again.read(), c);
    let gradients =
        |found: &StepOutput| found.gradients.iter().map(Tensor::to_vec::<f32>).collect::<Vec<_>>();
    assert!(gradients(&again) == gradients(&strong) && gradients(&without)[0] != gradients(&strong)[0]);
}

/// A method whose adversary serves the regularizer too.
fn shared(adversary: &str, regularizer: &str) -> Method {
    let attack = "{ kind = 'pgd', epsilon = 0.1, steps = 2 }";
    let mut method = method(2, None);
    method.adversary = Some(toml::from_str(&format!("{adversary}\nattack = {attack}")).unwrap());
    let text = format!("weight = 3.0\nanchor = 'strong'\ninner = {{ kind = 'adversary' }}\n{regularizer}");
    method.regularizer = Some(toml::from_str(&text).unwrap());
    method.check().unwrap();
    method
}

/// One attack and one pass for both: the objective on attacked views plus λ times the mean over views of the displacement
/// between clean and attacked ones, composed here from its parts.
#[test]
fn a_shared_attack_gives_the_objective_and_r_at_the_same_points() {
    for (text, clean_rows) in [("attacks = 'both'\nenters = 'replace'", 2), ("enters = 'third'", 0)] {
        let method = shared(text, "");
        let attacked = Plan::new(&method).attacked;
        let found = output(&method, &[0, 1]);
        let mut by_hand = None;
        output_of(&method, &[0, 1], &mut |net, input| {
            let ctx = context::StepContext::new(*net, &method, input);
            let moved = adversary::attack(&ctx).views;
            let (mut pass, n) = (ForwardContext::train(), 6);
            let compared: Vec<&Tensor> = if clean_rows > 0 {
                moved.iter().collect()
            } else {
                input.views.iter().chain(&moved).collect()
            };
            let rows: Vec<&Tensor> = compared.iter().copied().chain(&input.views[..clean_rows]).collect();
            let h = net.model.encoder.forward(&Tensor::concat(&rows, 0), &mut pass);
            let z = net.model.heads.embed(h.slice(0, 0, compared.len() * n), &mut pass).embeddings.unwrap();
            let part = |of: &Tensor, row: usize| of.slice(0, row * n, n);
            let parts: Vec<Tensor> = (0..compared.len()).map(|row| part(&z, row)).collect();
            // The mean over pairs of views.
            let pairs = (0..parts.len()).flat_map(|i| (i + 1..parts.len()).map(move |j| (i, j)));
            let pairs: Vec<Tensor> =
                pairs.map(|(i, j)| tarrl_objectives::nt_xent(&parts[i], &parts[j], 0.5)).collect();
            let sum = pairs.iter().cloned().reduce(|sum, pair| &sum + &pair).unwrap();
            let objective = sum.mul_scalar(1.0 / pairs.len() as f64);
            let displacement = |place: usize| {
                let at = |image: &Tensor| rows.iter().position(|row| std::ptr::eq(*row, image)).unwrap();
                let (clean, moved) = (part(&h, at(&input.views[place])), part(&h, at(&moved[place])));
                let length = (&moved - &clean).norm(1).mean_all();
                &length / &tarrl_bound::spread(&clean)
            };
            let displacements = attacked.iter().map(|&place| displacement(place));
            let r = displacements.reduce(|sum, r| &sum + &r).unwrap().mul_scalar(1.0 / attacked.len() as f64);
            let values = (objective.item(), r.item());
            let loss = &objective + &r.mul_scalar(3.0);
            by_hand = Some((values, backward(loss, &parameters(net.model).iter().collect::<Vec<_>>())));
            StepOutput::default()
        });
        let ((objective, r), gradients) = by_hand.unwrap();
        let read = found.read();
        // Roundings of f32 in another order.
        assert!((read.objective - objective).abs() < 1e-5 && (read.regularizer / r - 1.0).abs() < 1e-5);
        assert!((read.loss - objective - 3.0 * r).abs() < 1e-5 && r > 0.0);
        for (found, expected) in found.gradients.iter().zip(&gradients) {
            let (found, expected) = (found.array().to_f64(), expected.array().to_f64());
            let scale = expected.iter().fold(1e-3, |top: f64, g| top.max(g.abs()));
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4 * scale), "{text}");
        }
        // The steps of the attack and its references, then the rows of one pass.
        let moved = attacked.len() as u64;
        let rows = if clean_rows > 0 { 4 } else { 3 };
        let references = if clean_rows > 0 { 0 } else { 1 };
        let (forward, back) = (found.passes.forward / 6, found.passes.backward / 6);
        assert_eq!((forward, back), (references + 2 * moved + rows, 2 * moved + rows), "{text}");
        assert_eq!([forward, back].map(|count| count as f64), method.passes(), "{text}");
    }
}

/// The shared attack has its radius from the adversary and the ramp from the regularizer; without sharing it has no ramp.
#[test]
fn the_ramp_of_the_regularizer_is_that_of_the_attack_that_it_shares() {
    let method = shared("attacks = 'both'", "ramp = 0.5");
    let attack = method.adversary_attack(0.25).unwrap();
    assert_eq!((attack.epsilon, attack.step()), (0.025, 0.25 * 2.5 * 0.1 / 2.0));
    assert_eq!(method.adversary_attack(1.0).unwrap(), method.adversary.as_ref().unwrap().attack);
    let mut own = self::method(2, Some(1.0));
    own.adversary = method.adversary.clone();
    assert_eq!(own.adversary_attack(0.25).unwrap().epsilon, 0.1);
}

fn spectral(weight: f64) -> Method {
    Method { spectral_norm: Some(SpectralNorm { weight, iterations: 3 }), ..method(2, None) }
}

/// Half the sum of the squares, in the encoder alone; running statistics, passes and the objective stay as they are.
#[test]
fn the_spectral_norm_term_adds_to_the_loss_and_to_the_gradient_of_the_encoder() {
    let [plain, one, three] =
        [method(2, None), spectral(1.0), spectral(3.0)].map(|method| output(&method, &[0, 1]));
    let mut squares = 0.0;
    output_of(&spectral(1.0), &[0, 1], &mut |net, input| {
        let key = input.key.fold("spectral norms");
        let norms = net.model.encoder.spectral_norms(&input.views[0], BnBranch::Clean, 3, key);
        squares = norms.iter().map(|norm| norm.item().powi(2)).sum();
        StepOutput::default()
    });
    let [a, b, c] = [&plain, &one, &three].map(|found| found.read().objective);
    // Roundings of f32 on sums of this size.
    assert!(squares > 1.0 && (b - a - 0.5 * squares).abs() < 1e-5 * squares, "{a} {b} {squares}");
    assert!((c - a - 1.5 * squares).abs() < 1e-5 * squares, "{a} {c} {squares}");
    assert_eq!((one.passes.forward, one.passes.backward), (plain.passes.forward, plain.passes.backward));
    let buffers = |found: &StepOutput| found.buffers.iter().map(|b| b.array().to_f64()).collect::<Vec<_>>();
    assert_eq!(buffers(&one), buffers(&plain));
    let encoder = plain.gradients.len() - 5;
    for i in 0..plain.gradients.len() {
        let [p, a, b] = [&plain, &one, &three].map(|o| o.gradients[i].array().to_f64());
        let scale = b.iter().fold(1e-6, |m: f64, v| m.max(v.abs()));
        for j in 0..p.len() {
            // Three roundings of f32 on values up to `scale`.
            assert!((b[j] - p[j] - 3.0 * (a[j] - p[j])).abs() <= 1e-5 * scale, "parameter {i}[{j}]");
        }
        // A shift of batch norm and the projector are in no norm: shifts stand behind the scales.
        let shift = i < encoder && i % 3 == 2;
        assert_eq!(a != p, i < encoder && !shift, "parameter {i} of {}", plain.gradients.len());
    }
}

/// A distillation, part of it of projections, whose teacher sees another view.
fn projected(share: f64, epsilon: f64) -> Method {
    let text = format!(
        "title = 't'\nteacher = 'simclr'\n[distillation]\nview = 'strong'\nteacher_view = 'weak'\nprojected = {share:?}\n\
         consistency = 8.0\nattack = {{ kind = 'pgd', steps = 2, epsilon = {epsilon:?} }}"
    );
    let projector = ProjectorConfig { hidden: 8, out: 4, ..ProjectorConfig::default() };
    let method = Method { projector, ..toml::from_str(&text).unwrap() };
    method.check().unwrap();
    method
}

/// Without a ball the attacked image is the image, so that the loss is `−(1 − w) cos(f, T) − w cos(g∘f, g∘T) − k` with the
/// teacher's own view; with one it is more.
#[test]
fn a_distillation_of_projections_is_the_loss_by_its_formula() {
    let mut cosines = [0.0; 2];
    output_of(&projected(0.5, 0.0), &[0, 1], &mut |net, input| {
        let f = net.model.encoder.forward(&input.views[0], &mut ForwardContext::train());
        let t = net.teacher.unwrap().forward(&input.views[1]);
        let project = |z: &Tensor| net.projector.unwrap().forward(z, &mut ForwardContext::eval());
        let cosine = |a: &Tensor, b: &Tensor| {
            let [a, b] = [a, b].map(|rows| rows.cast(DType::F64).l2_normalize(1e-12));
            (&a * &b).sum(1).mean_all().item()
        };
        cosines = [cosine(&f, &t), cosine(&project(&f), &project(&t))];
        StepOutput::default()
    });
    assert!((cosines[0] - cosines[1]).abs() > 1e-3, "{cosines:?}");
    for share in [0.25, 0.5, 1.0] {
        let found = output(&projected(share, 0.0), &[0, 1]);
        let expected = -(1.0 - share) * cosines[0] - share * cosines[1] - 8.0;
        // Roundings of f32 on a value of nine.
        assert!(
            (found.read().objective - expected).abs() < 1e-5,
            "{share}: {} {expected}",
            found.read().objective
        );
        let attacked = output(&projected(share, 0.1), &[0, 1]);
        assert!(attacked.read().objective > expected + 1e-3, "{share}");
        // The encoder's parameters alone; the teacher's pass, two steps, clean and attacked images.
        assert_eq!(attacked.gradients.len(), 12);
        let (forward, back) = (attacked.passes.forward / 6, attacked.passes.backward / 6);
        assert_eq!((forward, back), (1 + 2 + 2, 2 + 2));
        assert_eq!([forward, back].map(|count| count as f64), projected(share, 0.1).passes());
    }
}
