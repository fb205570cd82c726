//! Inner maximizers: the term by each of them, and the invariances of scale controls.

use super::{keys, normal, thousand};
use crate::check::at_most;
use crate::check::strategies::normals;
use crate::divergence::{nearest_distances, pair_distance, total_deviation, volume_deviation};
use crate::{
    AttackMaximizerFrom, Divergence, InnerConfig, InnerKind, InnerMaximizer, InnerMaximum, InnerProblem,
    LinearHead, LpNorm, Measure, Regularizer, RegularizerConfig, RegularizerInput, Scale, TaskConstant,
    Whitening, spread, stochastic,
};
use proptest::prelude::*;
use tarrl_attacks::Norm;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu, grad};

fn matrix(rows: usize, columns: usize, data: &[f64]) -> Tensor {
    Tensor::new(&cpu(), [rows, columns], data)
}

fn images(n: usize, d: usize) -> Tensor {
    Tensor::random(&cpu(), Random::Uniform, &keys(8, n), &[d], DType::F64)
}

fn config(divergence: Divergence, scale: Scale, kind: InnerKind) -> RegularizerConfig {
    let sigma = matches!(scale, Scale::Noise | Scale::RelativeNoise).then_some(0.5);
    let inner = InnerConfig { kind, epsilon: 0.05, ..InnerConfig::default() };
    RegularizerConfig { divergence, scale, sigma, inner, ..RegularizerConfig::default() }
}

/// Every divergence with every control of scale that it takes.
fn measures() -> impl Iterator<Item = (Divergence, Scale)> {
    let all = Divergence::ALL.into_iter().flat_map(|d| Scale::ALL.map(|s| (d, s)));
    all.filter(|(d, s)| *s == Scale::None || !d.has_own_scale())
}

#[test]
fn scale_references_of_a_square_of_four_points() {
    // Four corners of a square around (1, 1) in cyclic order: neighbors are 2 apart, each √2 from the middle.
    let z = matrix(4, 2, &[0., 0., 2., 0., 2., 2., 0., 2.]);
    assert!((spread(&z).item() - 2f64.sqrt()).abs() < 1e-15);
    assert!((total_deviation(&z).item() - 2f64.sqrt()).abs() < 1e-15);
    assert!((pair_distance(&z).item() - 2.0).abs() < 1e-15);
    let moved = matrix(4, 2, &[0.3, 0.4, 2., 0., 2., 2., 0., 2.]);
    let value = |divergence: Divergence, scale: Scale| {
        Measure { divergence, scale, sigma: 0.25 }.per_sample(&z, &moved).to_vec::<f64>()[0]
    };
    let close =
        |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 2e-3, "{found} but {wanted}");
    close(value(Divergence::SquaredL2, Scale::Variance), 0.25 / 2.0);
    close(value(Divergence::L2, Scale::Pairs), 0.25);
    close(value(Divergence::L2, Scale::Noise), 2.0);
    close(value(Divergence::GaussianTv, Scale::Noise), stochastic::gaussian_tv(2.0));
    close(value(Divergence::GaussianKl, Scale::Noise), stochastic::gaussian_kl(2.0));
    // A quarter of the total deviation.
    close(value(Divergence::L2, Scale::RelativeNoise), 2.0 / 2f64.sqrt());
    close(value(Divergence::GaussianTv, Scale::RelativeNoise), stochastic::gaussian_tv(2f64.sqrt()));
    close(value(Divergence::L1, Scale::None), 0.7);
    close(value(Divergence::Linf, Scale::None), 0.4);
    // The covariance is the unit matrix, and its ridge a thousandth.
    close(value(Divergence::Whitened, Scale::None), 0.5);
    close(value(Divergence::SquaredL2, Scale::Whitened), 0.125);
    let (x, y) = (matrix(1, 2, &[3.0, 0.0]), matrix(1, 2, &[1.0, 1.0]));
    close(Divergence::Angle.mean(&x, &y).item(), std::f64::consts::FRAC_PI_4);
    let still = Divergence::Angle.mean(&x, &x.mul_scalar(2.0)).item();
    assert_eq!(still, 0.0);
}

/// The default term is, to the last bit, the mean of displacements over the floored spread at the points of
/// the attack.
#[test]
fn the_default_term_is_the_mean_relative_displacement_to_the_bit() {
    let x = images(6, 8).cast(DType::F32);
    let w = normal(2, 8, 5).cast(DType::F32).requires_grad();
    let encoder = |u: &Tensor| u.matmul(&w).tanh();
    let eval_encoder = |u: &Tensor| u.matmul(&w.detach()).tanh();
    let regularizer = Regularizer::new(RegularizerConfig::default()).unwrap();
    let input = RegularizerInput {
        eval_encoder: &eval_encoder,
        train_encoder: &encoder,
        x: &x,
        epsilon_scale: 1.0,
        keys: &keys(3, 6),
    };
    let term = regularizer.term(&input);
    let both = encoder(&Tensor::concat(&[&x, &regularizer.attack(&eval_encoder, &x, 1.0, &keys(3, 6))], 0));
    let (z, moved) = (both.slice(0, 0, 6), both.slice(0, 6, 6));
    let floor = Tensor::full(&cpu(), [], DType::F32, 1e-12);
    let spread = (&z - &z.mean(0)).norm(1).mean_all().maximum(&floor);
    let value = (&(&moved - &z).norm(1).reshape([6]) / &spread).mean_all();
    assert_eq!(term.value.item(), value.item());
    let slope = |value: &Tensor| grad(value, &[&w]).remove(0).to_vec::<f32>();
    assert_eq!(slope(&term.value), slope(&value));
    // The reference, five steps and the last point; then both in training.
    assert_eq!((term.forward, term.backward), (6 * (1 + 6 + 2), 6 * (5 + 2)));
    assert_eq!(term.z.to_vec::<f32>(), z.to_vec::<f32>());
}

/// An attack from points that were drawn before is the attack, to the last bit, and counts the same passes.
#[test]
fn initial_points_sampled_before_give_the_same_bits() {
    let x = images(6, 8).cast(DType::F32);
    let w = normal(2, 8, 5).cast(DType::F32).requires_grad();
    let encoder = |u: &Tensor| u.matmul(&w).tanh();
    let eval_encoder = |u: &Tensor| u.matmul(&w.detach()).tanh();
    for restarts in [1, 2] {
        let inner = InnerConfig { restarts, ..InnerConfig::default() };
        let regularizer = Regularizer::new(RegularizerConfig { inner, ..Default::default() }).unwrap();
        let input = RegularizerInput {
            eval_encoder: &eval_encoder,
            train_encoder: &encoder,
            x: &x,
            epsilon_scale: 0.7,
            keys: &keys(3, 6),
        };
        let (term, start) = (regularizer.term(&input), regularizer.start(&x, 0.7, &keys(3, 6)).unwrap());
        let from = regularizer.term_with(&AttackMaximizerFrom { start: &start }, &input);
        assert_eq!(from.value.item(), term.value.item());
        assert_eq!((from.forward, from.backward), (term.forward, term.backward));
    }
    let jacobian = InnerConfig { kind: InnerKind::Jacobian, ..InnerConfig::default() };
    let jacobian = Regularizer::new(RegularizerConfig { inner: jacobian, ..Default::default() }).unwrap();
    assert!(jacobian.start(&x, 1.0, &keys(3, 6)).is_none());
}

/// Every divergence, every control of scale, every maximizer: a term that the parameters can lower.
#[test]
fn every_divergence_scale_and_maximizer_gives_a_differentiable_term() {
    let x = images(6, 8);
    let (first, second) = (normal(9, 8, 12), normal(10, 12, 5).requires_grad());
    let trained = |u: &Tensor| u.add_scalar(-0.5).matmul(&first).tanh().matmul(&second);
    let eval_encoder = |u: &Tensor| u.add_scalar(-0.5).matmul(&first).tanh().matmul(&second.detach());
    let mut seen = 0;
    for (divergence, scale) in measures() {
        for kind in [InnerKind::Pgd, InnerKind::Fgsm, InnerKind::Apgd, InnerKind::Jacobian] {
            let term = |w: &Tensor| {
                let trained = |u: &Tensor| u.add_scalar(-0.5).matmul(&first).tanh().matmul(w);
                let input = RegularizerInput {
                    eval_encoder: &eval_encoder,
                    train_encoder: &trained,
                    x: &x,
                    epsilon_scale: 1.0,
                    keys: &keys(4, 6),
                };
                Regularizer::new(config(divergence, scale, kind)).unwrap().term(&input)
            };
            let found = term(&second);
            let value = found.value.item();
            assert!(value > 0.0 && value.is_finite(), "{divergence:?} {scale:?} {kind:?}: {value}");
            let slope = grad(&found.value, &[&second]).remove(0);
            let size = slope.square().sum_all().item().sqrt();
            // The points of an attack do not depend on the encoder in training: central differences are exact.
            let at = |h: f64| term(&(&second.detach() + &slope.mul_scalar(h / size))).value.item();
            let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
            let name = format!("{divergence:?} {scale:?} {kind:?}");
            assert!((numeric - size).abs() < 1e-5 * size + 1e-9, "{name}: {size} but {numeric}");
            assert!(found.forward >= 6 && found.backward >= 12);
            seen += 1;
        }
    }
    assert_eq!(seen, 4 * (6 * 7 + 6));
    assert_eq!(trained(&x).to_vec::<f64>(), eval_encoder(&x).to_vec::<f64>());
}

/// For `f(x) = x W` the squared term is `ε² ‖W‖_F²`, over many directions.
#[test]
fn the_jacobian_term_of_a_linear_encoder_is_its_frobenius_norm() {
    let (x, w) = (images(4, 5), normal(3, 5, 3).requires_grad());
    let encoder = |u: &Tensor| u.matmul(&w);
    let inner =
        InnerConfig { steps: Some(2000), ..config(Divergence::L2, Scale::None, InnerKind::Jacobian).inner };
    let base = RegularizerConfig { inner, ..config(Divergence::SquaredL2, Scale::None, InnerKind::Jacobian) };
    let input = RegularizerInput {
        eval_encoder: &encoder,
        train_encoder: &encoder,
        x: &x,
        epsilon_scale: 1.0,
        keys: &keys(4, 4),
    };
    let found = Regularizer::new(base).unwrap().term(&input).value.item();
    let exact = 0.05f64.powi(2) * w.square().sum_all().item();
    // ‖Wv‖² has a relative deviation of at most √2; of 8000 draws 1.6 %, four of these.
    assert!((found / exact - 1.0).abs() < 0.064, "{found} but {exact}");
}

proptest! {
    #![proptest_config(thousand())]

    /// G5 for linear maps, where first order is exact: in l2 the spectral norm within the Frobenius norm, in
    /// l-infinity the Frobenius norm within the largest corner within two upper bounds.
    #[test]
    fn jacobians_and_balls(seed in any::<u64>(), d in 1usize..6, out in 1usize..4, epsilon in 0.01f64..1.0) {
        let mut random = Key::new(seed).stream();
        let j = normals(&mut random, out * d, 0.0);
        let frobenius = epsilon * LpNorm::L2.of(&j);
        at_most("l2", epsilon * crate::numerics::linalg::spectral_norm(&j, out, d), frobenius)?;
        let image = |signs: usize| {
            let delta: Vec<f64> = (0..d).map(|i| if signs >> i & 1 == 1 { epsilon } else { -epsilon }).collect();
            LpNorm::L2.of(&j.chunks(d).map(|row| crate::numerics::linalg::dot(row, &delta)).collect::<Vec<_>>())
        };
        let corner = (0..1 << d).map(image).fold(0.0, f64::max);
        let column = |c: usize| (0..out).map(|r| j[r * d + c]).collect::<Vec<_>>();
        let gram: f64 = (0..d * d).map(|i| crate::numerics::linalg::dot(&column(i / d), &column(i % d)).abs()).sum();
        let columns: f64 = (0..d).map(|c| LpNorm::L2.of(&column(c))).sum();
        at_most("a corner", frobenius, corner)?;
        at_most("the Gram matrix", corner, epsilon * gram.sqrt())?;
        at_most("the columns", epsilon * gram.sqrt(), epsilon * columns)?;
    }

    /// R1 and R3 ignore scale, rotation and shift, R2 any invertible map; plain displacement ignores none. Below a scale
    /// of a tenth the floor under the variance, 1e-12, shows in the eighth digit.
    #[test]
    fn ratios_are_invariant(seed in any::<u64>(), scale in 0.1f64..100.0, angle in 0.0f64..6.3, shear in -1.0f64..1.0) {
        let (z, moved) = (normal(seed, 8, 2), normal(!seed, 8, 2));
        let (s, c) = angle.sin_cos();
        let turn = matrix(2, 2, &[scale * c, scale * s, -scale * s, scale * c]);
        let shift = normal(seed ^ 5, 1, 2);
        let value = |divergence, scale, map: &Tensor| {
            let apply = |z: &Tensor| &z.matmul(map) + &shift;
            Measure { divergence, scale, sigma: 1.0 }.mean(&apply(&z), &apply(&moved)).item()
        };
        let unit = matrix(2, 2, &[1.0, 0.0, 0.0, 1.0]);
        for (divergence, control) in [
            (Divergence::SquaredL2, Scale::Variance),
            (Divergence::L2, Scale::Pairs),
            (Divergence::SquaredL2, Scale::Whitened),
        ] {
            let (before, after) = (value(divergence, control, &unit), value(divergence, control, &turn));
            prop_assert!((after / before - 1.0).abs() < 1e-8, "{control:?}: {after} but {before}");
        }
        let plain = value(Divergence::L2, Scale::None, &turn) / value(Divergence::L2, Scale::None, &unit);
        prop_assert!((plain / scale - 1.0).abs() < 1e-8);
        // A shear changes what is measured with a ridge; without one, nothing.
        let sheared = matrix(2, 2, &[1.0, shear, 0.0, 1.0]);
        let length = |map: &Tensor| {
            let (z, moved) = (z.matmul(map).to_vec::<f64>(), (&moved - &z).matmul(map).to_vec::<f64>());
            Whitening::of(&z, 2, 0.0).map_or(f64::NAN, |w| w.length(&moved[..2]))
        };
        prop_assert!((length(&sheared) / length(&unit) - 1.0).abs() < 1e-6);
    }

    /// What every divergence promises: over a batch, the mean adversarial loss of a head exceeds the clean one by
    /// at most the excess, at any points whatever.
    #[test]
    fn every_divergence_bounds_losses(seed in any::<u64>(), n in 2usize..8, decade in -2.0f64..0.5) {
        let mut random = Key::new(seed).stream();
        let d = 3;
        let (z, delta) = (normals(&mut random, n * d, 0.0), normals(&mut random, n * d, decade));
        let moved: Vec<f64> = z.iter().zip(&delta).map(|(z, d)| z + d).collect();
        let head = LinearHead::new(4, d, normals(&mut random, 4 * d, 0.0), normals(&mut random, 4, 0.0));
        let unit = |v: &[f64]| -> Vec<f64> { v.iter().map(|x| x / LpNorm::L2.of(v)).collect() };
        let batch = |v: &[f64]| matrix(n, d, v);
        for divergence in Divergence::ALL {
            let mean = divergence.mean(&batch(&z), &batch(&moved)).item();
            let on_sphere = divergence.constant() == TaskConstant::UnitRows;
            let loss = |v: &[f64]| -> f64 {
                let of = |v: &[f64]| head.loss(&if on_sphere { unit(v) } else { v.to_vec() }, 1);
                v.chunks(d).map(of).sum::<f64>() / n as f64
            };
            let (mut clean, mut adversarial) = (loss(&z), loss(&moved));
            let constant = match divergence.constant() {
                TaskConstant::Rows(norm) => head.constant(norm),
                TaskConstant::UnitRows => head.constant(LpNorm::L2),
                TaskConstant::RowsTimesSpread => head.constant(LpNorm::L2) * spread(&batch(&z)).item(),
                TaskConstant::RowsTimesNearest => {
                    let nearest = nearest_distances(&batch(&z)).to_vec::<f64>();
                    head.constant(LpNorm::L2) * nearest.into_iter().fold(0.0, f64::max)
                }
                TaskConstant::RowsTimesVolume => head.constant(LpNorm::L2) * volume_deviation(&batch(&z)).item(),
                // Two points or fewer than dimensions: the ridge alone makes it invertible.
                TaskConstant::GapDeviation => match Whitening::of(&z, d, Whitening::RIDGE) {
                    Some(whitening) => whitening.constant(&head),
                    None => continue,
                },
                TaskConstant::LossRange => {
                    // The loss is 1 on the far side of the plane midway, which is where it hurts most.
                    let rho = |i: usize| LpNorm::L2.of(&delta[i * d..(i + 1) * d]);
                    let mass = |sign: f64| (0..n).map(|i| stochastic::normal_cdf(sign * 0.5 * rho(i))).sum::<f64>() / n as f64;
                    (clean, adversarial) = (mass(-1.0), mass(1.0));
                    1.0
                }
            };
            let bound = clean + divergence.excess(constant, mean);
            prop_assert!(adversarial <= bound + 1e-8 * (1.0 + bound), "{divergence:?}: {adversarial} > {bound}");
        }
    }

    /// A certificate of the displacement becomes one of the divergence.
    #[test]
    fn a_radius_bounds_every_divergence(seed in any::<u64>(), decade in -2.0f64..0.5) {
        let (z, delta) = (normal(seed, 6, 3), normal(!seed, 6, 3).mul_scalar(10f64.powf(decade)));
        let radius = delta.norm(1).reshape([6]);
        for (divergence, scale) in measures() {
            let measure = Measure { divergence, scale, sigma: 0.5 };
            let found = measure.per_sample(&z, &(&z + &delta)).to_vec::<f64>();
            let bound = measure.of_radius(&z, &radius).to_vec::<f64>();
            for (found, bound) in found.iter().zip(bound) {
                at_most(&format!("{divergence:?} {scale:?}"), *found, bound)?;
            }
        }
    }

    /// One l2 step on a linear encoder is a step of power iteration: the displacement does not fall, and stays
    /// below `ε ‖J‖₂`. From the clean point nothing moves.
    #[test]
    fn pgd_steps_on_a_linear_encoder_are_power_iteration(seed in any::<u64>()) {
        let (x, w) = (images(1, 4), normal(seed, 4, 3));
        let value = |steps: usize| {
            let inner = InnerConfig {
                norm: Norm::L2, epsilon: 0.3, steps: Some(steps), step_size: Some(1e3), bounds: None,
                ..InnerConfig::default()
            };
            let config = RegularizerConfig { divergence: Divergence::L2, inner, ..RegularizerConfig::default() };
            let found = Regularizer::new(config).unwrap().attack(&|u| u.matmul(&w), &x, 1.0, &[Key::new(seed)]);
            (&found - &x).matmul(&w).norm(1).item()
        };
        let most = 0.3 * crate::numerics::linalg::spectral_norm(&w.t().to_vec::<f64>(), 3, 4);
        let values: Vec<f64> = (1..5).map(value).collect();
        for pair in values.windows(2) {
            at_most("a step", pair[0], pair[1])?;
        }
        at_most("the most", values[3], most)?;
    }

    /// With a fixed target `T` in the place of the clean branch the displacement is at most twice the term.
    #[test]
    fn a_fixed_target_bounds_displacement(seed in any::<u64>()) {
        let (z, moved, target) = (normal(seed, 5, 3), normal(!seed, 5, 3), normal(seed ^ 7, 5, 3));
        let term = |z: &Tensor| Divergence::L2.per_sample(&target, z).to_vec::<f64>();
        let largest = term(&z).into_iter().zip(term(&moved)).map(|(a, b)| a.max(b));
        for (found, most) in Divergence::L2.per_sample(&z, &moved).to_vec::<f64>().into_iter().zip(largest) {
            at_most("displacement", found, 2.0 * most)?;
        }
    }
}

/// A bound in the place of an attack: the product of spectral norms, differentiable through the weight.
struct Product<'a>(&'a Tensor);

impl InnerMaximizer for Product<'_> {
    fn maximize(&self, problem: &InnerProblem<'_>) -> InnerMaximum {
        let z = (problem.train_encoder)(problem.x);
        let n = z.shape()[0];
        let frobenius = self.0.square().sum_all().sqrt().mul_scalar(problem.threat.epsilon);
        let values = problem.measure.of_radius(&z, &frobenius.reshape([1]).broadcast_to([n]));
        InnerMaximum::Values { values, z, forward: n as u64, backward: n as u64 }
    }
}

#[test]
fn a_certified_bound_can_replace_the_attack() {
    let (x, w) = (images(4, 5), normal(3, 5, 3).requires_grad());
    let encoder = |u: &Tensor| u.matmul(&w);
    let inner = InnerConfig { norm: Norm::L2, epsilon: 0.1, ..InnerConfig::default() };
    for (divergence, scale) in measures() {
        let config = RegularizerConfig { inner: inner.clone(), ..config(divergence, scale, InnerKind::Pgd) };
        let regularizer = Regularizer::new(config).unwrap();
        let input = RegularizerInput {
            eval_encoder: &encoder,
            train_encoder: &encoder,
            x: &x,
            epsilon_scale: 1.0,
            keys: &keys(4, 4),
        };
        let (attack, bound) = (regularizer.term(&input), regularizer.term_with(&Product(&w), &input));
        let (found, most) = (attack.value.item(), bound.value.item());
        assert!(found > 0.0 && found <= most, "{divergence:?} {scale:?}: {found} but {most}");
        assert!(grad(&bound.value, &[&w]).remove(0).square().sum_all().item() > 0.0);
    }
}

#[test]
fn method_files_parse_scale_and_jacobian() {
    let read = |text: &str| toml::from_str::<Regularizer>(text).map_err(|e| e.to_string());
    let term =
        read("divergence = 'gaussian-tv'\nscale = 'noise'\nsigma = 0.3\ninner = { kind = 'jacobian' }")
            .unwrap();
    assert_eq!(
        term.measure(),
        Measure { divergence: Divergence::GaussianTv, scale: Scale::Noise, sigma: 0.3 }
    );
    assert_eq!(term.config().inner.steps(), 1);
    let written = toml::to_string(&term).unwrap();
    assert_eq!(read(&written).unwrap(), term, "{written}");
    // Default values are not serialized, so that job keys of earlier runs stay valid.
    let plain = toml::to_string(&Regularizer::new(RegularizerConfig::default()).unwrap()).unwrap();
    assert!(!plain.contains("scale") && !plain.contains("sigma"), "{plain}");
    for (text, words) in [
        ("scale = 'pairs'", "RelativeL2 has a scale of its own"),
        ("divergence = 'l2'\nscale = 'noise'", "go together"),
        ("divergence = 'l2'\nsigma = 0.3", "go together"),
        ("divergence = 'l2'\nscale = 'noise'\nsigma = 0.0", "sigma is 0; it must be positive"),
        ("inner = { kind = 'jacobian', steps = 0 }", "inner.steps is 0"),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
#[should_panic(expected = "Jacobian finds no points; use Regularizer::term")]
fn asking_the_jacobian_for_points_panics() {
    let term = Regularizer::new(config(Divergence::L2, Scale::None, InnerKind::Jacobian)).unwrap();
    term.attack(&|u| u.clone(), &images(2, 3), 1.0, &keys(1, 2));
}
