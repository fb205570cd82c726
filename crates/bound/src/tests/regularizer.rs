//! The regularizer: its divergences, gradients, attacks and configuration.

use super::{keys, normal};
use crate::{
    Anchor, Divergence, InnerConfig, InnerKind, Regularizer, RegularizerConfig, RegularizerError, spread,
};
use proptest::prelude::*;
use serde::Deserialize;
use tarrl_attacks::{Norm, Start};
use tarrl_tensor::{DType, Random, Tensor, cpu, grad};

const ALL: [Divergence; 12] = Divergence::ALL;

const NAMES: [&str; 12] = [
    "l1",
    "l2",
    "squared-l2",
    "linf",
    "cosine",
    "angle",
    "relative-l2",
    "relative-nearest",
    "relative-volume",
    "whitened",
    "gaussian-kl",
    "gaussian-tv",
];

fn regularizer(divergence: Divergence, inner: InnerConfig) -> Regularizer {
    Regularizer::new(RegularizerConfig { divergence, inner, ..RegularizerConfig::default() }).unwrap()
}

fn matrix(rows: usize, columns: usize, data: &[f64]) -> Tensor {
    Tensor::new(&cpu(), [rows, columns], data)
}

#[test]
fn divergences_of_a_square_of_four_points() {
    // Four corners of a square around (1, 1): the spread is √2. The first moves by (0.3, 0.4).
    let z = matrix(4, 2, &[0., 0., 2., 0., 0., 2., 2., 2.]);
    let moved = matrix(4, 2, &[0.3, 0.4, 2., 0., 0., 2., 2., 2.]);
    let mean = |divergence: Divergence| divergence.mean(&z, &moved).item();
    assert!((mean(Divergence::L2) - 0.125).abs() < 1e-15);
    assert!((mean(Divergence::SquaredL2) - 0.0625).abs() < 1e-15);
    assert!((mean(Divergence::RelativeL2) - 0.125 / 2f64.sqrt()).abs() < 1e-15);
    assert!((spread(&z).item() - 2f64.sqrt()).abs() < 1e-15);
    assert_eq!(Divergence::L2.per_sample(&z, &moved).to_vec::<f64>()[1..], [0.0; 3]);

    let x = matrix(3, 2, &[1., 0., 3., 0., 1., 0.]);
    let y = matrix(3, 2, &[0., 5., -1., 0., 1., 1e-9]);
    let cosine = Divergence::Cosine.per_sample(&x, &y).to_vec::<f64>();
    assert!((cosine[0] - 1.0).abs() < 1e-15 && (cosine[1] - 2.0).abs() < 1e-15);
    assert!((cosine[2] / 5e-19 - 1.0).abs() < 1e-9, "{:e} canceled", cosine[2]);
}

#[test]
fn a_collapsed_batch_gives_no_nan() {
    let z = Tensor::full(&cpu(), [3, 2], DType::F64, 0.5).requires_grad();
    for divergence in ALL {
        let value = divergence.mean(&z, &z);
        assert_eq!(value.item(), 0.0, "{divergence:?}");
        let slope = grad(&value, &[&z]).remove(0);
        assert!(slope.to_vec::<f64>().iter().all(|g| *g == 0.0), "{divergence:?}: {slope:?}");
    }
}

proptest! {
    /// A head undoes scale, rotation and shift of a representation; the default divergence ignores them.
    #[test]
    fn relative_divergence_ignores_scale_rotation_and_shift(seed in any::<u64>(), scale in 0.01f64..100.0, angle in 0.0f64..6.3) {
        let (z, moved) = (normal(seed, 6, 2), normal(!seed, 6, 2));
        let (s, c) = angle.sin_cos();
        let turn = matrix(2, 2, &[scale * c, scale * s, -scale * s, scale * c]);
        let shift = normal(seed ^ 5, 1, 2);
        let map = |z: &Tensor| &z.matmul(&turn) + &shift;
        let value = |d: Divergence, z: &Tensor, moved: &Tensor| d.mean(z, moved).item();
        for divergence in [Divergence::RelativeL2, Divergence::RelativeNearest, Divergence::RelativeVolume] {
            let relative = value(divergence, &z, &moved);
            let mapped = value(divergence, &map(&z), &map(&moved));
            // The shift, of size 1, is rounded against representations of size 0.01, of which the closest are nearer, and
            // the floor of a variance, 1e-12, is added to one of 1e-4.
            let apart = if divergence == Divergence::RelativeL2 { 1e-11 } else { 1e-7 };
            prop_assert!((mapped / relative - 1.0).abs() < apart, "{divergence:?}: {mapped} but {relative}");
        }
        let plain = value(Divergence::L2, &map(&z), &map(&moved)) / value(Divergence::L2, &z, &moved);
        prop_assert!((plain / scale - 1.0).abs() < 1e-11, "plain displacement scales by {plain}");
    }

    /// Both arguments receive the full gradient: no stop-gradient, on the spread neither.
    #[test]
    fn gradients_are_central_differences(seed in any::<u64>(), which in 0usize..12) {
        let divergence = ALL[which];
        let (z, moved) = (normal(seed, 4, 3), normal(!seed, 4, 3));
        let (a, b) = (z.requires_grad(), moved.requires_grad());
        let found = grad(&divergence.mean(&a, &b), &[&a, &b]);
        for side in 0..2 {
            for (i, g) in found[side].to_vec::<f64>().into_iter().enumerate() {
                let at = |step: f64| {
                    let mut data = [z.to_vec::<f64>(), moved.to_vec::<f64>()];
                    data[side][i] += step;
                    divergence.mean(&matrix(4, 3, &data[0]), &matrix(4, 3, &data[1])).item()
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                // Truncation of order h² times third derivatives, which grow where rows are short.
                prop_assert!((g - slope).abs() < 1e-6 * (1.0 + g.abs()), "{divergence:?}: {g} but {slope}");
            }
        }
    }
}

/// For f(x) = x W the term at x' = x + δ has the gradient 2 δᵀδ W: x' is a constant.
#[test]
fn the_attacked_point_is_a_constant() {
    let (x, w) = (matrix(1, 3, &[0.4, 0.5, 0.6]), normal(1, 3, 2).requires_grad());
    let term = regularizer(Divergence::SquaredL2, InnerConfig { epsilon: 0.1, ..InnerConfig::default() });
    let attacked = term.attack(&|u| u.matmul(&w), &x, 1.0, &keys(2, 1));
    assert!(!attacked.tracks_grad());
    let delta = &attacked - &x;
    let found = grad(&term.value(&x.matmul(&w), &attacked.matmul(&w)), &[&w]).remove(0).to_vec::<f64>();
    let closed = delta.t().matmul(&delta.matmul(&w.detach())).mul_scalar(2.0).to_vec::<f64>();
    assert!(found.iter().zip(&closed).all(|(a, b)| (a - b).abs() < 1e-14), "{found:?} but {closed:?}");
}

/// The envelope theorem: that gradient is the gradient of the maximum itself, which for a linear encoder
/// and a cube is the best of all corners.
#[test]
fn the_gradient_is_that_of_the_maximum() {
    let (d, out, epsilon) = (4, 3, 0.1);
    let x = matrix(1, d, &[0.3, 0.7, 0.5, 0.4]);
    let w = normal(4, d, out);
    let maximum = |w: &[f64]| {
        let corner = |signs: usize| {
            let sign = |i: usize| if signs >> i & 1 == 1 { epsilon } else { -epsilon };
            (0..out).map(|j| (0..d).map(|i| sign(i) * w[i * out + j]).sum::<f64>().powi(2)).sum::<f64>()
        };
        (0..1 << d).map(corner).fold(0.0, f64::max)
    };
    let inner = InnerConfig { epsilon, steps: Some(30), step_size: Some(0.02), ..InnerConfig::default() };
    let term = regularizer(Divergence::SquaredL2, inner);
    let tracked = w.requires_grad();
    let encoder = |u: &Tensor| u.matmul(&tracked);
    // Corners are local maxima; of some starts, one leads to the best.
    let most = maximum(&w.to_vec::<f64>());
    let attacked = (0..20)
        .map(|seed| term.inner_maximum(&encoder, &x, 1.0, &keys(seed, 1)))
        .find(|found| (found.value[0] / most - 1.0).abs() < 1e-9)
        .expect("no start reached the maximum")
        .best;
    let value = term.value(&encoder(&x), &encoder(&attacked));
    for (i, g) in grad(&value, &[&tracked]).remove(0).to_vec::<f64>().into_iter().enumerate() {
        let at = |step: f64| {
            let mut w = w.to_vec::<f64>();
            w[i] += step;
            maximum(&w)
        };
        let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((g - slope).abs() < 1e-7 * (0.01 + g.abs()), "element {i}: {g} but {slope}");
    }
}

/// f = w·x with w = 1, x = −2, δ = ½: the slope of (w δ)² is ½. With a stop-gradient on the clean branch
/// it would be −1½ and training would raise the term.
#[test]
fn the_clean_branch_is_differentiated() {
    let w = matrix(1, 1, &[1.0]).requires_grad();
    let term = regularizer(Divergence::SquaredL2, InnerConfig::default());
    let (x, attacked) = (matrix(1, 1, &[-2.0]), matrix(1, 1, &[-1.5]));
    let slope = |clean: &Tensor| grad(&term.value(clean, &attacked.matmul(&w)), &[&w]).remove(0).item();
    assert_eq!(slope(&x.matmul(&w)), 0.5);
    assert_eq!(slope(&x.matmul(&w).detach()), -1.5);
}

#[test]
fn the_inner_objective_has_zero_gradient_at_the_clean_input() {
    let (x, w) = (normal(6, 4, 5), normal(7, 5, 3));
    for divergence in ALL {
        let u = x.requires_grad();
        let z = x.matmul(&w);
        let value = divergence.inner(&z, &u.matmul(&w));
        assert_eq!(value.to_vec::<f64>(), [0.0; 4]);
        let slope = grad(&value.sum_all(), &[&u]).remove(0);
        assert!(slope.to_vec::<f64>().iter().all(|g| *g == 0.0), "{divergence:?}");
    }
}

/// Every divergence and every attack: inside the ball, larger than at a random point, dependent on
/// the key alone.
#[test]
fn attacks_increase_every_divergence_inside_the_ball() {
    let (n, d) = (6, 8);
    let x = Tensor::random(&cpu(), Random::Uniform, &keys(8, n), &[d], DType::F32);
    let (first, second) = (normal(9, d, 12).cast(DType::F32), normal(10, 12, 5).cast(DType::F32));
    let encoder = |u: &Tensor| u.add_scalar(-0.5).matmul(&first).tanh().matmul(&second);
    for divergence in ALL {
        for (kind, norm) in [
            (InnerKind::Pgd, Norm::Linf),
            (InnerKind::Pgd, Norm::L2),
            (InnerKind::Fgsm, Norm::Linf),
            (InnerKind::Apgd, Norm::Linf),
            (InnerKind::Apgd, Norm::L2),
        ] {
            // APGD begins elsewhere, perhaps in the basin of a lower maximum: it begins several times.
            let restarts = if kind == InnerKind::Apgd { 8 } else { 1 };
            let inner = InnerConfig { kind, norm, epsilon: 0.1, restarts, ..InnerConfig::default() };
            let term = regularizer(divergence, inner);
            let found = term.inner_maximum(&encoder, &x, 1.0, &keys(11, n));
            let steps = if kind == InnerKind::Fgsm { 1 } else { 5 };
            let ascents = restarts as u32;
            assert_eq!((found.forward[0], found.backward[0]), (ascents * (steps + 1), ascents * steps));
            let threat = tarrl_attacks::Threat::new(norm, 0.1);
            let start: Vec<_> = keys(11, n).iter().map(|key| key.fold("restart").fold(0usize)).collect();
            let start = threat.around(&x).start(&start);
            let random = divergence.inner(&encoder(&x), &encoder(&start)).array().to_f64();
            for (found, random) in found.value.iter().zip(random) {
                assert!(
                    *found > random,
                    "{divergence:?} {kind:?} {norm:?}: {found} but {random} at the start"
                );
            }
            assert_eq!(threat.around(&x).project(&found.best).to_vec::<f32>(), found.best.to_vec::<f32>());
            let again = term.attack(&encoder, &x, 1.0, &keys(11, n));
            assert_eq!(again.to_vec::<f32>(), found.best.to_vec::<f32>());
        }
    }
}

/// The same starts with fixed steps and with APGD's end elsewhere; a length for steps that find their own is refused.
#[test]
fn apgd_ends_elsewhere_than_pgd_and_refuses_a_step_size() {
    let x = Tensor::random(&cpu(), Random::Uniform, &keys(8, 4), &[6], DType::F32);
    let w = normal(9, 6, 5).cast(DType::F32);
    let encoder = |u: &Tensor| u.add_scalar(-0.5).matmul(&w).tanh();
    let inner = |kind| InnerConfig { kind, norm: Norm::L2, epsilon: 0.3, ..InnerConfig::default() };
    let ends = [InnerKind::Pgd, InnerKind::Apgd].map(|kind| {
        regularizer(Divergence::L2, inner(kind)).attack(&encoder, &x, 1.0, &keys(11, 4)).to_vec::<f32>()
    });
    assert_ne!(ends[0], ends[1]);
    let inner = InnerConfig { step_size: Some(0.1), ..inner(InnerKind::Apgd) };
    let refusal = Regularizer::new(RegularizerConfig { inner, ..RegularizerConfig::default() }).unwrap_err();
    assert!(refusal.to_string().contains("inner.step_size is 0.1; APGD finds its own"), "{refusal}");
}

#[test]
fn epsilon_grows_linearly_over_the_ramp() {
    let config = RegularizerConfig { ramp: 0.4, ..RegularizerConfig::default() };
    let term = Regularizer::new(config).unwrap();
    let scales = [0.0, 0.1, 0.2, 0.4, 0.9, 1.0].map(|progress| term.epsilon_scale(progress));
    for (found, wanted) in scales.into_iter().zip([0.0, 0.25, 0.5, 1.0, 1.0, 1.0]) {
        assert!((found - wanted).abs() < 1e-15);
    }
    assert_eq!(regularizer(Divergence::L2, InnerConfig::default()).epsilon_scale(0.0), 1.0, "no ramp");

    let x = Tensor::random(&cpu(), Random::Uniform, &keys(12, 3), &[4], DType::F32);
    let (w, wide) = (normal(13, 4, 2).cast(DType::F32), 8.0 / 255.0);
    let reach = |scale: f64| {
        let attacked = term.attack(&|u| u.matmul(&w), &x, scale, &keys(14, 3));
        (&attacked - &x).abs().reshape([12]).max(0).item()
    };
    assert_eq!(reach(0.0), 0.0);
    assert!(reach(0.5) <= 0.5 * wide + 1e-7 && reach(0.5) > 0.4 * wide);
    assert!(reach(1.0) <= wide + 1e-7 && reach(1.0) > 0.8 * wide);
}

#[derive(Debug, Deserialize)]
struct File {
    regularizer: Regularizer,
}

fn read(text: &str) -> Result<Regularizer, String> {
    toml::from_str::<File>(text).map(|file| file.regularizer).map_err(|e| e.to_string())
}

#[test]
fn method_files_parse_into_the_regularizer() {
    let text = r#"
        [regularizer]
        divergence = "relative-l2"
        weight = 8.0
        anchor = "weak"
        ramp = 0.3
        inner = { kind = "pgd", steps = 7, norm = "linf", epsilon = "8/255", step_size = "2/255", start = "random" }
    "#;
    let read = read(text).unwrap();
    let inner = InnerConfig { steps: Some(7), step_size: Some(2.0 / 255.0), ..InnerConfig::default() };
    let wanted = RegularizerConfig {
        divergence: Divergence::RelativeL2,
        weight: 8.0,
        anchor: Anchor::Weak,
        inner,
        ramp: 0.3,
        ..RegularizerConfig::default()
    };
    assert_eq!(read.config(), &wanted);
    assert_eq!(read.weight(), 8.0);
    let written = toml::to_string(&read).unwrap();
    assert_eq!(toml::from_str::<Regularizer>(&written).unwrap(), read, "{written}");
    for (name, divergence) in NAMES.into_iter().zip(ALL) {
        let config: RegularizerConfig = toml::from_str(&format!("divergence = '{name}'")).unwrap();
        assert_eq!(config.divergence, divergence);
    }
}

#[test]
fn a_clean_start_is_refused_with_its_reason() {
    let inner = InnerConfig { start: Start::Clean, ..InnerConfig::default() };
    let config = RegularizerConfig { inner, ..RegularizerConfig::default() };
    assert_eq!(Regularizer::new(config), Err(RegularizerError::ZeroGradientStart));
    let message = read("[regularizer.inner]\nstart = 'clean'").unwrap_err();
    assert!(
        message.contains("gradient of a displacement") && message.contains("start = \"random\""),
        "{message}"
    );
}

#[test]
fn a_shared_attack_has_no_settings_and_finds_no_points_of_its_own() {
    let shared = read("[regularizer]\nweight_ramp = 0.5\ninner = { kind = 'adversary' }").unwrap();
    assert!(shared.shares_attack() && !regularizer(Divergence::L2, InnerConfig::default()).shares_attack());
    assert_eq!([0.25, 0.5, 1.0].map(|progress| shared.weight_scale(progress)), [0.5, 1.0, 1.0]);
    assert_eq!(toml::from_str::<Regularizer>(&toml::to_string(&shared).unwrap()).unwrap(), shared);
    let x = matrix(1, 2, &[0.5, 0.5]);
    assert!(shared.start(&x, 1.0, &keys(1, 1)).is_none());
    for key in ["steps = 3", "epsilon = 0.1", "norm = 'l2'", "restarts = 2"] {
        let message = read(&format!("[regularizer.inner]\nkind = 'adversary'\n{key}")).unwrap_err();
        assert!(message.contains("takes the points of another attack"), "{key}: {message}");
    }
}

#[test]
#[should_panic(expected = "finds no points")]
fn a_shared_attack_is_no_attack() {
    let shared = read("[regularizer.inner]\nkind = 'adversary'").unwrap();
    let _ = shared.attack(&|u| u.clone(), &matrix(1, 2, &[0.5, 0.5]), 1.0, &keys(1, 1));
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let wrong = |text: &str, words: &str| {
        let message = read(text).unwrap_err();
        assert!(message.contains(words), "{message}");
    };
    wrong("[regularizer]\nweight = -1.0", "weight is -1");
    wrong("[regularizer]\nweight = inf", "weight is inf");
    wrong("[regularizer]\nramp = 1.5", "ramp is 1.5; a share of training");
    wrong("[regularizer]\nweight_ramp = -0.5", "weight_ramp is -0.5; a share of training");
    wrong("[regularizer.inner]\nepsilon = -0.1", "inner.epsilon is -0.1");
    wrong("[regularizer.inner]\nepsilon = nan", "\"NaN\" is not finite");
    let inner = InnerConfig { epsilon: f64::NAN, ..InnerConfig::default() };
    let error = Regularizer::new(RegularizerConfig { inner, ..RegularizerConfig::default() }).unwrap_err();
    assert!(error.to_string().contains("inner.epsilon is NaN"), "{error}");
    wrong("[regularizer.inner]\nsteps = 0", "inner.steps is 0");
    wrong("[regularizer.inner]\nrestarts = 0", "inner.restarts is 0");
    wrong("[regularizer.inner]\nkind = 'fgsm'\nsteps = 5", "takes one step, not 5");
    wrong("[regularizer]\nlambda = 1.0", "lambda");
}
