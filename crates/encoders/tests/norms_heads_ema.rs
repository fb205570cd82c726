//! Dual batch norm, projectors and predictors, and momentum encoders.

mod common;

use common::{SIDE, images, relative_gap, tiny, with_random_norms};
use tarrl_encoders::checkpoint::state_dict;
use tarrl_encoders::{
    After, Arch, BATCH_NORM_MOMENTUM, BatchNormMode, BnBranch, Buffers, Ema, Encoder, EncoderConfig,
    ForwardContext, Module, Predictor, PredictorConfig, Projector, ProjectorConfig, Role, cosine_momentum,
    ema, parameter_count, parameters, track,
};
use tarrl_tensor::{DType, Key, Tensor, cpu, grad};

const BRANCHES: [BnBranch; 2] = [BnBranch::Clean, BnBranch::Adversarial];

fn dual(arch: Arch) -> EncoderConfig {
    EncoderConfig { norm: BatchNormMode::Dual, ..tiny(arch) }
}

fn with_norm() -> impl Iterator<Item = Arch> {
    Arch::ALL.into_iter().filter(|arch| arch.has_batch_norm())
}

#[test]
fn a_second_branch_doubles_only_the_norms_and_starts_equal() {
    let device = cpu();
    for arch in with_norm() {
        let [one, two] = [tiny(arch), dual(arch)].map(|config| Encoder::new(&config, &device, Key::new(1)));
        let mut norms = 0;
        one.visit(&mut |_, role, tensor| {
            norms += if matches!(role, Role::NormScale | Role::NormShift) { tensor.array().len() } else { 0 };
        });
        assert_eq!(parameter_count(&two), parameter_count(&one) + norms);
        let x = images(&device, Key::new(2), [3, SIDE, 3]);
        let z = one.forward(&x, &mut ForwardContext::train()).to_vec::<f32>();
        for branch in BRANCHES {
            assert_eq!(two.forward(&x, &mut ForwardContext::train().branch(branch)).to_vec::<f32>(), z);
        }
    }
    let names: Vec<String> =
        state_dict(&Encoder::new(&dual(Arch::ResNet18Cifar), &device, Key::new(1))).into_keys().collect();
    for name in ["bn1.bn_list.0.weight", "bn1.bn_list.1.running_var", "layer2.0.downsample.1.bn_list.1.bias"]
    {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
}

#[test]
fn each_branch_has_its_own_statistics_scales_and_gradients() {
    let device = cpu();
    let mut encoder = with_random_norms(&dual(Arch::ResNet18Cifar), &device, Key::new(1));
    let x = images(&device, Key::new(2), [3, SIDE, 3]);
    for (branch, own, other) in
        [(BnBranch::Clean, "bn_list.0", "bn_list.1"), (BnBranch::Adversarial, "bn_list.1", "bn_list.0")]
    {
        track(&mut encoder);
        let mut pass = ForwardContext::train().branch(branch);
        let loss = encoder.forward(&x, &mut pass).square().sum_all();
        let of = parameters(&encoder);
        let gradients = grad(&loss, &of.iter().collect::<Vec<_>>());
        let mut gradients = gradients.iter();
        let before = state_dict(&encoder);
        let mut updated = encoder.clone();
        updated.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
        let after = state_dict(&updated);
        encoder.visit(&mut |name, role, _| {
            if role.is_parameter() {
                let zero = gradients.next().unwrap().to_vec::<f32>().iter().all(|&g| g == 0.0);
                assert_eq!(zero, name.contains(other), "{name}");
            }
            assert_eq!(before[name] != after[name], role == Role::Buffer && name.contains(own), "{name}");
        });
    }
}

#[test]
fn the_branch_that_is_kept_is_the_branch_that_was_trained() {
    let device = cpu();
    for arch in with_norm() {
        let mut encoder = with_random_norms(&dual(arch), &device, Key::new(3));
        track(&mut encoder);
        let x = images(&device, Key::new(4), [3, SIDE, 3]);
        let of = |branch| encoder.forward(&x, &mut ForwardContext::eval().branch(branch)).array().to_f64();
        let [clean, adversarial] = BRANCHES.map(of);
        assert!(relative_gap(&clean, &adversarial) > 1e-2, "{}", arch.name());
        assert_eq!(
            encoder.inference().forward(&x).array().to_f64(),
            encoder.inference_branch(BnBranch::Clean).forward(&x).array().to_f64()
        );
        for (branch, expected) in BRANCHES.into_iter().zip([clean, adversarial]) {
            // Rounding in f32 over at most 50 layers.
            assert!(
                relative_gap(&encoder.inference_branch(branch).forward(&x).array().to_f64(), &expected)
                    < 1e-4
            );
            let kept = encoder.only(branch);
            assert_eq!(kept.config(), &tiny(arch));
            let z = kept.forward(&x, &mut ForwardContext::eval());
            assert!(!z.tracks_grad() && z.array().to_f64() == expected);
            let single = state_dict(&Encoder::new(&tiny(arch), &device, Key::new(1)));
            assert!(state_dict(&kept).keys().eq(single.keys()), "names of a single set");
        }
    }
}

fn layers(module: &dyn Module) -> Vec<String> {
    let mut names = Vec::new();
    module.visit(&mut |name, role, _| names.extend(role.is_parameter().then(|| name.to_string())));
    names
}

#[test]
fn heads_have_the_layers_of_their_methods() {
    let device = cpu();
    let head = |config: &ProjectorConfig| Projector::new(config, 5, &device, Key::new(1));
    let base = ProjectorConfig { hidden: 7, out: 3, ..Default::default() };

    // MoCo v2: L R L, with biases.
    let moco = ProjectorConfig { hidden_norm: After::Nothing, ..base.clone() };
    assert_eq!(
        layers(&head(&moco)),
        ["0.weight", "0.bias", "2.weight", "2.bias"].map(|n| format!("projector.{n}"))
    );
    // SimSiam: L B R L Bn, no biases; the last norm has nothing to train.
    let simsiam = ProjectorConfig { last: After::PlainNorm, ..base.clone() };
    let net = head(&simsiam);
    assert_eq!(
        layers(&net),
        ["0.weight", "1.weight", "1.bias", "3.weight"].map(|n| format!("projector.{n}"))
    );
    assert!(
        state_dict(&net).contains_key("projector.4.running_mean")
            && !state_dict(&net).contains_key("projector.4.weight")
    );
    // ACL: L B R L B R L B, two sets.
    let acl = ProjectorConfig { layers: 3, last: After::Norm, norm: BatchNormMode::Dual, ..base.clone() };
    assert_eq!(parameter_count(&head(&acl)), 5 * 7 + 7 * 7 + 7 * 3 + 2 * 2 * (7 + 7 + 3));
    assert!(state_dict(&head(&acl)).contains_key("projector.7.bn_list.1.weight"));

    let predictor =
        Predictor::new(&PredictorConfig { hidden: 2, ..Default::default() }, 6, &device, Key::new(1));
    let names = ["0.weight", "1.weight", "1.bias", "3.weight", "3.bias"].map(|n| format!("predictor.{n}"));
    assert_eq!((layers(&predictor), parameter_count(&predictor)), (names.to_vec(), 6 * 2 + 4 + 2 * 6 + 6));
    let z = Tensor::new(&device, [4, 6], &(0..24).map(|i| (i as f32).sin()).collect::<Vec<_>>());
    assert_eq!(predictor.forward(&z, &mut ForwardContext::train()).shape()[..], [4, 6]);
}

/// Scores are the cosines with the prototypes, whatever the lengths of both.
#[test]
fn prototypes_score_directions() {
    let device = cpu();
    let config = ProjectorConfig { hidden: 7, out: 3, prototypes: 4, ..Default::default() };
    let mut net = Projector::new(&config, 5, &device, Key::new(1));
    let plain = Projector::new(&ProjectorConfig { prototypes: 0, ..config.clone() }, 5, &device, Key::new(1));
    let h = Tensor::new(&device, [6, 5], &(0..30).map(|i| (i as f32).cos()).collect::<Vec<_>>());
    let z: Vec<f64> = plain.forward(&h, &mut ForwardContext::train()).array().to_f64();
    let scores = |net: &Projector| net.forward(&h, &mut ForwardContext::train()).array().to_f64();
    let found = scores(&net);
    let mut w = Vec::new();
    net.visit(&mut |name, _, tensor| {
        if name == "projector.prototypes.weight" {
            w = tensor.array().to_f64();
        }
    });
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (i, z) in z.chunks(3).enumerate() {
        for (j, w) in w.chunks(3).enumerate() {
            let cosine = dot(z, w) / (dot(z, z) * dot(w, w)).sqrt();
            // A few roundings of f32.
            assert!((found[i * 4 + j] - cosine).abs() < 1e-6);
        }
    }
    net.visit_mut(&mut |name, _, tensor| {
        if name == "projector.prototypes.weight" {
            *tensor = tensor.mul_scalar(8.0);
        }
    });
    assert!(relative_gap(&scores(&net), &found) < 1e-6);
}

#[test]
fn a_plain_norm_gives_every_dimension_mean_zero_and_variance_one() {
    let config = ProjectorConfig { hidden: 7, out: 3, last: After::PlainNorm, ..Default::default() };
    let net = Projector::new(&config, 5, &cpu(), Key::new(1));
    let h = Tensor::new(&cpu(), [16, 5], &(0..80).map(|i| (i as f32 * 1.7).cos()).collect::<Vec<_>>());
    let z = net.forward(&h, &mut ForwardContext::train()).cast(DType::F64);
    let mean = z.mean(0).to_vec::<f64>();
    let variance = z.square().mean(0).to_vec::<f64>();
    // Up to f32 and the 1e-5 that is added to a variance of a few hundredths.
    assert!(
        mean.iter().all(|m| m.abs() < 1e-6) && variance.iter().all(|v| (v - 1.0).abs() < 5e-3),
        "{variance:?}"
    );
}

#[test]
fn ema_averages_parameters_and_treats_buffers_as_configured() {
    let device = cpu();
    let online = with_random_norms(&tiny(Arch::ConvSmall), &device, Key::new(1));
    let start = with_random_norms(&tiny(Arch::ConvSmall), &device, Key::new(2));
    let after = |momentum: f64, buffers: Buffers| {
        let mut target = start.clone();
        ema(&mut target, &online, &Ema { momentum, buffers });
        state_dict(&target)
    };
    assert_eq!(after(1.0, Buffers::Own), state_dict(&start));
    assert_eq!(after(0.0, Buffers::Copy), state_dict(&online));
    let (mut m, mut a, mut b) = (Vec::new(), Vec::new(), Vec::new());
    let mut mixed = start.clone();
    ema(&mut mixed, &online, &Ema { momentum: 0.9, buffers: Buffers::Average });
    for (net, to) in [(&mixed, &mut m), (&start, &mut a), (&online, &mut b)] {
        net.visit(&mut |name, _, tensor| to.push((name.to_string(), tensor.array().to_f64())));
    }
    for ((m, a), b) in m.iter().zip(&a).zip(&b).filter(|((m, _), _)| !m.0.ends_with("num_batches_tracked")) {
        for ((m, a), b) in m.1.iter().zip(&a.1).zip(&b.1) {
            // Two roundings of f32.
            assert!((m - (0.9 * a + 0.1 * b)).abs() < 3e-7 * (1.0 + a.abs() + b.abs()));
        }
    }
    let own = after(0.5, Buffers::Own);
    for (name, tensor) in &own {
        let buffer = name.contains("running") || name.contains("tracked");
        assert_eq!(tensor == &state_dict(&start)[name], buffer, "{name}");
    }
}

#[test]
#[should_panic(expected = "ema: the online network has no conv1.weight")]
fn ema_of_networks_of_different_shapes_panics() {
    let [wide, narrow] = [0.125, 0.0625]
        .map(|width| Encoder::new(&EncoderConfig { width, ..tiny(Arch::ConvSmall) }, &cpu(), Key::new(1)));
    ema(&mut wide.clone(), &narrow, &Ema::default());
}

/// From 0.99: after a quarter, a half and the whole of the steps.
#[test]
fn the_momentum_follows_half_a_cosine() {
    for (step, golden) in [(0, 0.99), (25, 0.991464466), (50, 0.995), (100, 1.0)] {
        assert!((cosine_momentum(0.99, step, 100) - golden).abs() < 1e-9);
    }
}
