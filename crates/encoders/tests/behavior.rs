//! Encoders: gradients, independence of batch rows, forward contexts, and the inference encoder.

mod common;

use common::{SIDE, images, relative_gap, tiny, with_random_norms};
use tarrl_encoders::{
    Activation, Arch, BATCH_NORM_MOMENTUM, BatchNorm, Encoder, EncoderConfig, ForwardContext, Module,
    ParamBuilder, Projector, ProjectorConfig, Role, cast, detach, parameters, set_parameters, track,
};
use tarrl_tensor::{Cpu, DType, Key, Random, Tensor, cpu, grad, value_and_grad};

/// A fixed weighting of the representations, so that every coordinate counts differently.
fn weighted(z: &Tensor) -> Tensor {
    let keys: Vec<Key> = (0..z.shape()[0]).map(|i| Key::new(99).fold(i)).collect();
    let weights = Tensor::random(z.device(), Random::Normal, &keys, &z.shape()[1..], z.dtype());
    (z * &weights).sum_all()
}

/// The error of central differences is h²/6 times the third derivative plus 1e-16/h: with h = 1e-5 about
/// 1e-10 for gradients of order one. A kink of a ReLU within h would show as an error of order one.
#[test]
fn parameter_gradients_of_conv_small_are_those_of_central_differences() {
    let device = cpu();
    let x = images(&device, Key::new(3), [3, 6, 3]).cast(DType::F64);
    let mut encoder = with_random_norms(&tiny(Arch::ConvSmall), &device, Key::new(4));
    cast(&mut encoder, DType::F64);
    for pass in [ForwardContext::eval(), ForwardContext::train()] {
        let loss = |encoder: &Encoder| weighted(&encoder.forward(&x, &mut pass.clone()));
        track(&mut encoder);
        let at = parameters(&encoder);
        let gradients = grad(&loss(&encoder), &at.iter().collect::<Vec<_>>());
        detach(&mut encoder);

        for (place, gradient) in gradients.iter().enumerate() {
            let values: Vec<f64> = at[place].to_vec();
            let slope = |i: usize| {
                let h = 1e-5;
                let side = |step: f64| {
                    let mut moved = values.clone();
                    moved[i] += step;
                    let mut tensors: Vec<Tensor> = at.iter().map(Tensor::detach).collect();
                    tensors[place] = Tensor::new(&device, *at[place].shape(), &moved);
                    let mut encoder = encoder.clone();
                    set_parameters(&mut encoder, &tensors);
                    loss(&encoder).item()
                };
                (side(h) - side(-h)) / (2.0 * h)
            };
            for (i, g) in gradient.to_vec::<f64>().into_iter().enumerate() {
                let slope = slope(i);
                let scale = g.abs().max(1e-2);
                assert!((g - slope).abs() < 1e-6 * scale, "parameter {place}[{i}]: {g} but {slope}");
            }
        }
    }
}

#[test]
fn in_eval_mode_an_image_does_not_depend_on_the_others() {
    let device = cpu();
    for arch in Arch::ALL {
        let encoder = with_random_norms(&tiny(arch), &device, Key::new(1));
        let x = images(&device, Key::new(2), [5, SIDE, 3]);
        let all = encoder.forward(&x, &mut ForwardContext::eval());
        let inference = encoder.inference().forward(&x);
        for i in 0..5 {
            let one = x.slice(0, i, 1);
            // The same sums in the same order; only how images share a tile may differ.
            let close = |a: &Tensor, b: &Tensor| {
                relative_gap(&a.array().to_f64(), &b.slice(0, i, 1).array().to_f64()) < 1e-6
            };
            assert!(close(&encoder.forward(&one, &mut ForwardContext::eval()), &all));
            assert!(close(&encoder.inference().forward(&one), &inference));
        }
        let half = encoder.forward(&x.slice(0, 0, 2), &mut ForwardContext::train()).array().to_f64();
        let whole = encoder.forward(&x, &mut ForwardContext::train()).slice(0, 0, 2).array().to_f64();
        let matters = relative_gap(&half, &whole) > 1e-2;
        assert_eq!(matters, arch.has_batch_norm(), "{}: in training the batch matters", arch.name());
    }
}

#[test]
fn the_inference_encoder_equals_eval_mode_and_differentiates_its_input_alone() {
    let device = cpu();
    for arch in Arch::ALL {
        // Rounding of each type over at most 50 layers.
        for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::F64, 1e-12)] {
            let mut encoder = with_random_norms(&tiny(arch), &device, Key::new(7));
            cast(&mut encoder, dtype);
            track(&mut encoder);
            let inference = encoder.inference();
            let x = images(&device, Key::new(8), [4, SIDE, 3]).cast(dtype);
            assert!(
                !inference.forward(&x).tracks_grad(),
                "the parameters of an inference encoder are constants"
            );

            let (value, slope) = value_and_grad(&x, |x| weighted(&inference.forward(x)));
            let (expected, expected_slope) =
                value_and_grad(&x, |x| weighted(&encoder.forward(x, &mut ForwardContext::eval())));
            let values = [inference.forward(&x), encoder.forward(&x, &mut ForwardContext::eval())]
                .map(|z| z.array().to_f64());
            assert!(relative_gap(&values[0], &values[1]) < tolerance);
            // In f32 a ReLU whose input is as good as zero may decide differently.
            let gap = relative_gap(&slope.array().to_f64(), &expected_slope.array().to_f64());
            assert!(dtype == DType::F32 || gap < 10.0 * tolerance, "{}: {gap:e}", arch.name());
            assert!(
                (value.item() - expected.item()).abs() < 10.0 * tolerance * expected.item().abs().max(1.0)
            );
        }
    }
}

/// Column [1, 2, 3, 6]: mean 3, biased variance 3.5, unbiased 14/3; so (x − 3)/√(3.5 + 1e-5) and the
/// running values .1·3 and .9 + .1·14/3, as PyTorch has them.
#[test]
fn batch_norm_matches_reference_values_of_pytorch() {
    let device = cpu();
    let mut layer = BatchNorm::new(&ParamBuilder::new(&device, Key::new(0)).at("bn"), 1);
    let x = Tensor::new(&device, [4, 1], &[1.0f32, 2.0, 3.0, 6.0]);
    let mut pass = ForwardContext::train();
    let y = layer.forward(&x, Activation::None, &mut pass).to_vec::<f32>();
    for (y, golden) in y.iter().zip([-1.069043, -0.534522, 0.0, 1.603565]) {
        assert!((y - golden).abs() < 1e-6, "{y} but {golden}"); // The golden values have six digits.
    }
    update_running_stats(&mut layer, &pass);
    let [mean, variance, count] = buffers(&layer);
    assert!((mean - 0.3).abs() < 1e-7 && (variance - 1.366667).abs() < 1e-6 && count == 1.0);
    // In evaluation: (1 − .3)/√(1.366667 + 1e-5), with ReLU fused or not.
    let y = layer.forward(&x, Activation::None, &mut ForwardContext::eval()).to_vec::<f32>();
    assert!((f64::from(y[0]) - 0.7 / 1.366677f64.sqrt()).abs() < 1e-6);
    let low = &x.neg();
    assert!(
        layer
            .forward(low, Activation::Relu, &mut ForwardContext::eval())
            .to_vec::<f32>()
            .iter()
            .all(|&y| y == 0.0)
    );

    // Two batches in one pass are two steps, in their order.
    let mut pass = ForwardContext::train();
    layer.forward(&x, Activation::None, &mut pass);
    layer.forward(&x.mul_scalar(2.0), Activation::None, &mut pass);
    update_running_stats(&mut layer, &pass);
    let [mean, variance, count] = buffers(&layer);
    let step = |r: f64, batch: f64| 0.9 * r + 0.1 * batch;
    assert!((mean - step(step(0.3, 3.0), 6.0)).abs() < 1e-6);
    let third = 14.0 / 3.0;
    assert!((variance - step(step(step(1.0, third), third), 4.0 * third)).abs() < 1e-6);
    assert_eq!(count, 3.0);
}

struct Alone<'a>(&'a mut BatchNorm);

impl Module for Alone<'_> {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.0.visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.0.visit_mut(f);
    }
}

fn update_running_stats(layer: &mut BatchNorm, pass: &ForwardContext) {
    Alone(layer).update_running_stats(pass, BATCH_NORM_MOMENTUM);
}

fn buffers(layer: &BatchNorm) -> [f64; 3] {
    let mut found = Vec::new();
    layer.visit(&mut |_, role, tensor| {
        if role == Role::Buffer {
            found.push(tensor.item());
        }
    });
    found.try_into().unwrap()
}

#[test]
#[should_panic(expected = "one value per channel")]
fn a_batch_of_one_value_has_no_variance() {
    let device = cpu();
    let projector = Projector::new(&ProjectorConfig::default(), 4, &device, Key::new(0));
    projector.forward(&Tensor::full(&device, [1, 4], DType::F32, 1.0), &mut ForwardContext::train());
}

#[test]
fn one_context_serves_encoder_and_projector_and_changes_nothing_until_the_update() {
    let device = cpu();
    let mut encoder = with_random_norms(&tiny(Arch::ResNet18Cifar), &device, Key::new(1));
    let config = ProjectorConfig { hidden: 6, out: 4, layers: 2, ..Default::default() };
    let mut projector = Projector::new(&config, encoder.dim(), &device, Key::new(2));
    let x = images(&device, Key::new(3), [4, 8, 3]);
    let before = (snapshot(&encoder), snapshot(&projector));

    let mut pass = ForwardContext::train();
    let z = projector.forward(&encoder.forward(&x, &mut pass), &mut pass);
    assert_eq!(z.shape()[..], [4, 4]);
    assert_eq!(before, (snapshot(&encoder), snapshot(&projector)));
    let layers: Vec<&str> = pass.statistics().iter().map(|seen| &*seen.layer).collect();
    let mut norms = Vec::new();
    encoder.visit(&mut |name, role, _| norms.extend((role == Role::NormScale).then(|| name.to_string())));
    projector.visit(&mut |name, role, _| norms.extend((role == Role::NormScale).then(|| name.to_string())));
    let norms: Vec<&str> = norms.iter().map(|name| name.trim_end_matches(".weight")).collect();
    assert_eq!(layers, norms, "statistics come in the order of the layers");

    encoder.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
    projector.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
    for (before, after) in [(before.0, snapshot(&encoder)), (before.1, snapshot(&projector))] {
        for ((name, role, old), (_, _, new)) in before.iter().zip(&after) {
            assert_eq!(old != new, *role == Role::Buffer, "{name}: only buffers change, and all of them");
        }
    }
    let evaluated = snapshot(&encoder);
    let mut pass = ForwardContext::eval();
    encoder.forward(&x, &mut pass);
    encoder.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
    assert_eq!(evaluated, snapshot(&encoder), "evaluation collects nothing");
}

/// With momentum one the running statistics are those of the batch, so evaluation of the same batch
/// differs from training by Bessel's correction alone: in the first layer, by √((n − 1)/n) for n = 5·14².
#[test]
fn updated_statistics_make_eval_mode_agree_with_train_mode() {
    let device = cpu();
    let mut encoder = Encoder::new(&tiny(Arch::ConvSmall), &device, Key::new(1));
    let x = images(&device, Key::new(2), [5, 14, 3]);
    let mut pass = ForwardContext::train();
    let trained = encoder.forward(&x, &mut pass).array().to_f64();
    let fresh = encoder.forward(&x, &mut ForwardContext::eval()).array().to_f64();
    encoder.update_running_stats(&pass, 1.0);
    let settled = encoder.forward(&x, &mut ForwardContext::eval()).array().to_f64();
    assert!(relative_gap(&fresh, &trained) > 0.1);
    assert!(relative_gap(&settled, &trained) < 0.01);
}

#[test]
fn initial_values_of_resnet_and_projector_have_their_distributions() {
    let device = cpu();
    let config =
        EncoderConfig { arch: Arch::ResNet18Cifar, width: 0.25, in_channels: 3, ..Default::default() };
    let encoder = Encoder::new(&config, &device, Key::new(11));
    encoder.visit(&mut |name, role, tensor| {
        let values = tensor.array().to_f64();
        match role {
            Role::Weight => {
                // N(0, 2/(k²·out)): the standard error of a variance is √(2/n) of it; five of them.
                let [k, _, _, out] = tensor.shape()[..] else { panic!("{name} is no kernel") };
                let n = values.len() as f64;
                let ratio = values.iter().map(|v| v * v).sum::<f64>() / n * (k * k * out) as f64 / 2.0;
                assert!((ratio - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{name}: {ratio}");
            }
            Role::NormScale => assert!(values.iter().all(|&v| v == 1.0)),
            Role::NormShift => assert!(values.iter().all(|&v| v == 0.0)),
            _ => assert!(values.iter().all(|&v| v == f64::from(u8::from(name.ends_with("running_var"))))),
        }
    });
    let projector = Projector::new(&ProjectorConfig::default(), 100, &device, Key::new(11));
    let first = &parameters(&projector)[0].array().to_f64();
    let largest = first.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    // U(−1/√100, 1/√100): the largest of 51,200 is within a few 1e-5 of the limit.
    assert!(largest <= 0.1 && largest > 0.0999, "{largest}");
}

/// PyTorch's laws: fan-out normal for convolutions before a batch norm, uniform in ±1/√fan-in for those with a bias and for
/// matrices, normal with 0.02 in transformers, whose biases are zero.
#[test]
fn initial_values_of_every_architecture_have_their_distributions() {
    let device = cpu();
    for arch in Arch::ALL {
        let side = if arch.needs_side() { SIDE } else { 0 };
        let config = EncoderConfig { arch, width: 0.25, in_channels: 3, side, ..Default::default() };
        Encoder::new(&config, &device, Key::new(12)).visit(&mut |name, role, tensor| {
            let (values, shape) = (tensor.array().to_f64(), *tensor.shape());
            let kernel = shape.rank() == 4;
            let variance = match role {
                Role::Weight | Role::Embedding if name.starts_with("blocks.") || name == "pos_embed" => {
                    0.02f64.powi(2)
                }
                Role::Embedding => 1e-12,
                Role::Weight if name.starts_with("features.") || name.starts_with("patch_embed.") => {
                    1.0 / (3 * shape[0] * shape[1] * shape[2]) as f64
                }
                Role::Weight if kernel => 2.0 / (shape[0] * shape[1] * shape[3]) as f64,
                Role::Weight => 1.0 / (3 * shape[1]) as f64,
                Role::Bias if name.starts_with("blocks.") => {
                    assert!(values.iter().all(|&v| v == 0.0), "{name}");
                    return;
                }
                Role::Bias => {
                    assert!(values.iter().any(|&v| v != 0.0), "{name}");
                    return;
                }
                _ => return,
            };
            // The standard error of a variance is √(2/n) of it for normal numbers, less for uniform ones; five of them.
            let n = values.len() as f64;
            let ratio = values.iter().map(|v| v * v).sum::<f64>() / n / variance;
            assert!((ratio - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{} {name}: {ratio}", arch.name());
        });
    }
}

#[test]
fn results_depend_on_the_seed_and_not_on_threads() {
    let run = |threads: usize, seed: u64| {
        let device = Cpu { threads, ..Cpu::default() }.open();
        let mut encoder = Encoder::new(&tiny(Arch::ResNet18Cifar), &device, Key::new(seed));
        track(&mut encoder);
        let x = images(&device, Key::new(2), [6, 10, 3]);
        let mut pass = ForwardContext::train();
        let loss = weighted(&encoder.forward(&x, &mut pass));
        let at = parameters(&encoder);
        let gradients = grad(&loss, &at.iter().collect::<Vec<_>>());
        encoder.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
        let z = encoder.inference().forward(&x);
        let bits = |t: &Tensor| t.to_vec::<f32>().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        (gradients.iter().map(bits).collect::<Vec<_>>(), bits(&z))
    };
    let one = run(1, 1);
    assert_eq!(one, run(2, 1));
    assert_eq!(one, run(3, 1));
    assert_ne!(one, run(1, 2));
}

#[test]
#[should_panic(expected = "expected (n, h, w, 3)")]
fn images_of_other_channels_are_refused() {
    let device = cpu();
    let encoder = Encoder::new(&tiny(Arch::ConvSmall), &device, Key::new(1));
    encoder.forward(&images(&device, Key::new(1), [2, 8, 1]), &mut ForwardContext::eval());
}

fn snapshot(module: &dyn Module) -> Vec<(String, Role, Vec<f64>)> {
    let mut found = Vec::new();
    module.visit(&mut |name, role, tensor| found.push((name.to_string(), role, tensor.array().to_f64())));
    found
}
