//! Every divergence on representations that are huge, tiny, collapsed, repeated or zero: finite values, finite gradients.

use super::normal;
use crate::{Divergence, Measure, Scale, diagonal_gaussian_kl};
use tarrl_tensor::{DType, Tensor, cpu, grad};

const N: usize = 6;
const D: usize = 3;

/// Clean and attacked representations that are alike in some way, before they are scaled.
fn shapes() -> Vec<(&'static str, [Tensor; 2])> {
    let (z, step) = (normal(1, N, D), normal(2, N, D).mul_scalar(0.1));
    let collapsed = z.slice(0, 0, 1).broadcast_to([N, D]);
    let repeated = Tensor::concat(&[&z.slice(0, 0, 2), &z.slice(0, 0, 2), &z.slice(0, 0, 2)], 0);
    let zero_row = Tensor::concat(&[&z.slice(0, 0, 1).zeros_like(), &z.slice(0, 1, N - 1)], 0);
    let one = z.slice(0, 0, 1);
    vec![
        ("random", [z.clone(), &z + &step]),
        ("unmoved", [z.clone(), z.clone()]),
        ("collapsed", [collapsed.clone(), &collapsed + &step]),
        ("collapsed and unmoved", [collapsed.clone(), collapsed]),
        ("repeated", [repeated.clone(), &repeated + &step]),
        ("a row of zeros", [zero_row.clone(), &zero_row + &step]),
        ("onto zeros", [z.clone(), z.zeros_like()]),
        ("zeros", [z.zeros_like(), z.zeros_like()]),
        ("opposite", [z.clone(), z.neg()]),
        ("one row", [one.clone(), one.add_scalar(0.1)]),
    ]
}

fn measures() -> Vec<Measure> {
    let scaled = Scale::ALL
        .iter()
        .flat_map(|&scale| Divergence::ALL.map(|divergence| Measure { divergence, scale, sigma: 0.5 }));
    scaled.filter(|m| m.scale == Scale::None || !m.divergence.has_own_scale()).collect()
}

fn value_and_gradients(measure: &Measure, [z, moved]: &[Tensor; 2], scale: f64, dtype: DType) -> Vec<f64> {
    let scaled = |z: &Tensor| z.mul_scalar(scale).cast(dtype).requires_grad();
    let (z, moved) = (scaled(z), scaled(moved));
    let each = measure.per_sample(&z, &moved);
    let gradients = grad(&each.mean_all(), &[&z, &moved]);
    assert!(
        each.array().to_f64().iter().all(|v| *v >= 0.0),
        "{measure:?} at {scale}: {:?}",
        each.array().to_f64()
    );
    [&each.detach()].into_iter().chain(&gradients).flat_map(|t| t.array().to_f64()).collect()
}

/// Up to 1e15 in f32 and 1e75 in f64: fourth powers of the former overflow, and sums of their squares do not.
#[test]
fn every_divergence_is_finite_on_extreme_representations() {
    for measure in measures() {
        for (name, pair) in shapes() {
            for (dtype, largest) in [(DType::F32, 1e15), (DType::F64, 1e75)] {
                for scale in [1e-30, 1e-15, 1e-6, 1.0, 1e6, 1e12, largest] {
                    let found = value_and_gradients(&measure, &pair, scale, dtype);
                    // One point has no spread but the floor of 1e-12: in units of it, the square of a large step
                    // overflows, which a training tells.
                    let overflows = ["one row", "collapsed"].contains(&name) && scale >= 1e6;
                    let is_finite = found.iter().all(|v| v.is_finite());
                    assert!(is_finite || overflows, "{measure:?}, {name}, {scale} in {dtype:?}: {found:?}");
                }
            }
        }
    }
}

/// What has a scale of its own does not change with that of the representations, as far as lengths above the floor
/// of 1e-12 can be squared.
#[test]
fn relative_divergences_do_not_change_with_the_scale() {
    let [(_, pair), ..] = &shapes()[..] else { unreachable!() };
    for measure in measures().into_iter().filter(|m| m.divergence.has_own_scale()) {
        let at = |scale| value_and_gradients(&measure, pair, scale, DType::F32)[..N].to_vec();
        let usual = at(1.0);
        for scale in [1e-3, 1e3, 1e9, 1e15, 1e17] {
            let found = at(scale);
            // The differences of 0.1 are taken of numbers of size one: a part in 1e6 of each, with room for the rest.
            let agree = found.iter().zip(&usual).all(|(f, u)| (f - u).abs() < 1e-4 * u.abs());
            assert!(agree, "{measure:?} at {scale}: {found:?} but {usual:?}");
        }
    }
}

/// A sample is never its own nearest neighbor: of two points, each is that of the other at any scale.
#[test]
fn the_nearest_of_two_points_is_the_other_one() {
    for scale in [1e-9, 1.0, 1e9, 1e15, 1e18] {
        let z = Tensor::new(&cpu(), [2, 2], &[0.0, 0.0, 3.0, 4.0f32]).mul_scalar(scale);
        let found = crate::divergence::nearest_distances(&z).array().to_f64();
        assert!(found.iter().all(|d| (d / (5.0 * scale) - 1.0).abs() < 1e-6), "{scale}: {found:?}");
    }
}

/// The divergence of Gaussians grows with squares of means and deviations; where those can be held it is finite.
#[test]
fn gaussians_of_extreme_deviations_have_a_finite_divergence() {
    let t = |v: f64| Tensor::full(&cpu(), [2, 2], DType::F32, v).requires_grad();
    for (shift, from, to) in [(0.0, -30.0, 10.0), (1e9, 0.0, 10.0), (1e-30, 40.0, 40.0), (1e15, 10.0, 10.0)] {
        let all = [t(0.0), t(from), t(shift), t(to)];
        let kl = diagonal_gaussian_kl((&all[0], &all[1]), (&all[2], &all[3])).sum_all();
        assert!(kl.item().is_finite() && kl.item() >= 0.0, "{shift} {from} {to}: {}", kl.item());
        for gradient in grad(&kl, &all.each_ref()) {
            assert!(gradient.array().to_f64().iter().all(|g| g.is_finite()), "{shift} {from} {to}");
        }
    }
}
