//! MLP, cosine, regression and nearest-neighbor heads: reference values, and theorems on random instances.

use super::thousand;
use crate::check::strategies::{linear_heads, mlp_heads, normalized_heads, normals};
use crate::check::{Violation, at_most, equals};
use crate::{
    KnnHead, LinearHead, LpNorm, MlpHead, RegressionHead, ScalarLoss, SoftmaxHead, Whitening, angle,
    cap_support, chord, gap, mean_squared_bound, squared_bound,
};
use proptest::prelude::*;
use tarrl_tensor::Key;

/// Within some thousand roundings of f64, for reference values given with sixteen digits.
fn close(found: f64, golden: f64) {
    assert!((found / golden - 1.0).abs() < 1e-12, "{found} but {golden}");
}

#[test]
fn angle_chord_and_cap_match_reference_values() {
    close(angle(5.0, 1.0), 0.2013579207903308);
    close(chord(5.0, 1.0), 0.20101792401041635);
    close(chord(2.0, 1.0), 0.5176380902050415);
    close(cap_support(&[0.0, 1.0], &[0.6, 0.8], angle(5.0, 1.0)), 0.10383671769061698);
    // A ball that holds the origin reaches every direction.
    assert_eq!((angle(1.0, 1.0), chord(1.0, 1.5)), (std::f64::consts::PI, 2.0));
    close(cap_support(&[0.0, 2.0], &[1.0, 0.0], angle(1.0, 1.5)), 2.0);
    assert!(angle(1.0, f64::NAN).is_nan() && cap_support(&[1.0], &[1.0], f64::NAN).is_nan());
}

#[test]
fn lipschitz_constants_of_an_mlp_head_match_reference_values() {
    let output = LinearHead::new(2, 2, vec![0.0, 0.0, -2.0, 0.0], vec![0.0; 2]);
    let head = MlpHead::new(2, vec![1.0, -1.0, 2.0, 0.0], vec![0.0; 2], output);
    let golden = [4.576491222541475, 2.8284271247461903, 3.702459173643833];
    for (found, golden) in head.lipschitz_constants(&[-2.0, 0.0]).into_iter().zip(golden) {
        close(found, golden);
    }
    close(head.gap_constants(0)[1], golden[1]);
    // relu(1 − 0.5) = 0.5 and relu(2) = 2, and −2 of the first.
    assert_eq!(head.logits(&[1.0, 0.5]), [0.0, -1.0]);
    assert!(head.logits(&[f64::NAN, 0.5])[1].is_nan());
}

#[test]
fn regression_and_nearest_neighbor_bounds_match_reference_values() {
    close(squared_bound(0.5, 2.0 * 0.25), 1.0);
    close(ScalarLoss::Logistic.bound(1.0, 0.5), 0.4740769841801067);
    let near = KnnHead::new(2, 1, vec![1.0, 0.0, 0.0, 2.0], vec![0, 1]);
    close(near.certified_radius(&[0.0, 0.0], 0), 0.6708203932499369);
    close(near.simple_radius(&[0.0, 0.0], 0), 0.5);
    assert_eq!(near.certified_radius(&[0.0, 0.0], 1), 0.0);
    assert_eq!(KnnHead::new(1, 1, vec![1.0], vec![3]).certified_radius(&[0.0], 3), f64::INFINITY);
    // Two points in one place: which comes first is a matter of order, so nothing is certified.
    assert_eq!(KnnHead::new(1, 1, vec![1.0, 1.0], vec![0, 1]).certified_radius(&[0.0], 0), 0.0);

    let head = RegressionHead::new(2, vec![3.0, 4.0, 0.0, 1.0], vec![0.5, 0.0]);
    assert_eq!(head.predict(&[1.0, 1.0]), [7.5, 1.0]);
    assert_eq!(head.output_constants(), [5.0, 1.0]);
    // Errors (0.5, 1), shifts (0.5, 0.1): |e| grows to 1 and 1.1.
    close(head.scalar_bound(ScalarLoss::Absolute, &[1.0, 1.0], &[7.0, 0.0], 0.1), 2.1);
    // Multi-label: margins 7.5 and −1.
    let logistic = head.scalar_bound(ScalarLoss::Logistic, &[1.0, 1.0], &[1.0, -1.0], 0.0);
    close(logistic, (-7.5f64).exp().ln_1p() + 1.0f64.exp().ln_1p());
}

#[test]
fn scalar_losses_match_their_definitions() {
    for (loss, at, value) in [
        (ScalarLoss::Squared, -3.0, 9.0),
        (ScalarLoss::Absolute, -3.0, 3.0),
        (ScalarLoss::Huber(1.0), 0.5, 0.125),
        (ScalarLoss::Huber(1.0), -3.0, 2.5),
        (ScalarLoss::Pinball(0.9), -2.0, 1.8),
        (ScalarLoss::Pinball(0.9), 2.0, 0.2),
        (ScalarLoss::Logistic, 0.0, std::f64::consts::LN_2),
        (ScalarLoss::Hinge, 0.25, 0.75),
        (ScalarLoss::Hinge, 2.0, 0.0),
    ] {
        assert!((loss.value(at) - value).abs() < 1e-15, "{loss:?} at {at}");
    }
}

/// A nearest-centroid head decides by distance.
#[test]
fn a_nearest_centroid_head_decides_by_distance() {
    let head = LinearHead::nearest_centroid(2, 2, &[0.0, 0.0, 2.0, 0.0]);
    // ‖z − μ₀‖² − ‖z − μ₁‖² = 4 z₀ − 4.
    assert_eq!(head.gaps(&[0.5, 3.0], 0), [0.0, -2.0]);
    // The plane between them is half a unit away.
    assert!(head.is_certified(&[0.5, 3.0], 0, 0.4999) && !head.is_certified(&[0.5, 3.0], 0, 0.5));
}

#[test]
fn a_temperature_divides_the_constant() {
    let head = LinearHead::new(2, 2, vec![1.0, 0.0, 0.0, 1.0], vec![0.0, 0.5]);
    let warm = head.with_temperature(0.1);
    close(warm.constant(LpNorm::L2), 10.0 * head.constant(LpNorm::L2));
    close(warm.logits(&[1.0, 2.0])[1], 25.0);
    // What was computed of a head is no part of it.
    assert_eq!(head, LinearHead::new(2, 2, head.weight().to_vec(), head.bias().to_vec()));
}

const LOSSES: [ScalarLoss; 6] = [
    ScalarLoss::Squared,
    ScalarLoss::Absolute,
    ScalarLoss::Huber(0.7),
    ScalarLoss::Pinball(0.2),
    ScalarLoss::Logistic,
    ScalarLoss::Hinge,
];

/// A point, a point moved from it, over four decades.
fn points(d: usize) -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    (any::<u64>(), -3.0f64..1.0).prop_map(move |(seed, decade)| {
        let mut random = Key::new(seed).stream();
        let z = normals(&mut random, d, 0.0);
        let moved = normals(&mut random, d, decade).iter().zip(&z).map(|(a, b)| a + b).collect();
        (z, moved)
    })
}

/// A1, A2 and B2 for any softmax head: the loss within the bound, a certified label kept.
fn holds(head: &dyn SoftmaxHead, z: &[f64], moved: &[f64]) -> Result<(), Violation> {
    let radius = LpNorm::L2.distance(z, moved);
    for label in 0..head.classes() {
        let (gaps, supports) = (head.gaps(z, label), head.radius_supports(z, label, radius));
        let after = head.gaps(moved, label);
        for j in 0..gaps.len() {
            at_most("a gap", after[j], gaps[j] + supports[j])?;
        }
        at_most("the gap bound", head.loss(moved, label), gap::logit_gap_bound(&gaps, label, &supports))?;
        if gap::is_certified(&gaps, label, &supports) {
            let kept = after.iter().enumerate().all(|(j, &m)| j == label || m <= 0.0);
            if !kept {
                return Err(Violation::Flipped(format!("label {label}")));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(thousand())]

    #[test]
    fn b1_hidden_layers(head in mlp_heads(4), (z, moved) in points(4), seed in any::<u64>()) {
        holds(&head, &z, &moved)?;
        let mut random = Key::new(seed).stream();
        let (h, hidden) = (1 + random.below(8), 1 + random.below(4));
        let (v, c) = (normals(&mut random, h * hidden, 0.0), normals(&mut random, h, 0.0));
        let a = normals(&mut random, h, 0.0);
        // One direction as a head of two classes, the other of them zero: each constant alone bounds the change.
        let output = LinearHead::new(2, h, [vec![0.0; h], a.clone()].concat(), vec![0.0; 2]);
        let head = MlpHead::new(hidden, v, c, output);
        let (z, moved) = (&z[..hidden], &moved[..hidden]);
        let change = (head.gaps(moved, 0)[1] - head.gaps(z, 0)[1]).abs();
        let constants = head.lipschitz_constants(&a);
        for constant in constants {
            at_most("a gap of one hidden layer", change, constant * LpNorm::L2.distance(z, moved))?;
        }
        at_most("the third constant", constants[2], constants[0])?;
    }

    #[test]
    fn a4_spheres(head in normalized_heads(4), (g, moved) in points(4)) {
        holds(&head, &g, &moved)?;
        let (length, r) = (LpNorm::L2.of(&g), LpNorm::L2.distance(&g, &moved));
        let unit = |v: &[f64]| -> Vec<f64> { v.iter().map(|x| x / LpNorm::L2.of(v)).collect() };
        let apart = LpNorm::L2.distance(&unit(&g), &unit(&moved));
        at_most("the chord", apart, chord(length, r))?;
        at_most("pairs", apart, 2.0 * r / (length + LpNorm::L2.of(&moved)))?;
        if r < length {
            at_most("the linear form", chord(length, r), std::f64::consts::SQRT_2 * r / length)?;
        }
        for j in 1..head.classes() {
            let v = head.on_sphere().gap_vector(j, 0);
            at_most("the support", cap_support(&v, &unit(&g), angle(length, r)), LpNorm::L2.of(&v) * chord(length, r))?;
        }
    }

    /// The tangent from the origin to the ball touches it at an angle of θ: equality in the chord, and in the
    /// support of a direction farther than θ away.
    #[test]
    fn a4_is_attained(n0 in 0.1f64..10.0, share in 0.0f64..0.999, phi in 0.0f64..3.1) {
        let r = share * n0;
        let t = angle(n0, r);
        let touching = [n0 - r * t.sin(), r * t.cos()];
        let length = LpNorm::L2.of(&touching);
        let z = [touching[0] / length, touching[1] / length];
        equals("the chord", LpNorm::L2.distance(&z, &[1.0, 0.0]), chord(n0, r), 1e-9)?;
        let v = [phi.cos(), phi.sin()];
        if phi > t {
            let rise = v[0] * (z[0] - 1.0) + v[1] * z[1];
            prop_assert!((rise - cap_support(&v, &[1.0, 0.0], t)).abs() < 1e-14, "{rise}");
        }
    }

    /// Supports of the vector before its normalization, exact or inflated.
    #[test]
    fn a4b_directional(head in normalized_heads(3), (g, moved) in points(3), inflation in 0.0f64..1.0) {
        let delta: Vec<f64> = moved.iter().zip(&g).map(|(a, b)| a - b).collect();
        let r = LpNorm::L2.of(&delta);
        for label in 0..head.classes() {
            let before: Vec<f64> =
                head.on_sphere().shifts(label, &delta).iter().map(|s| s.max(0.0) + inflation * r).collect();
            let supports = head.directional_supports(&g, label, r, &before);
            let (gaps, after) = (head.gaps(&g, label), head.gaps(&moved, label));
            for j in 0..head.classes() {
                at_most("a gap", after[j], gaps[j] + supports[j])?;
                at_most("the cap", supports[j], head.radius_supports(&g, label, r)[j])?;
            }
            let plain = LinearHead::new(head.classes(), 3, head.on_sphere().weight().to_vec(), vec![0.0; head.classes()]);
            let plain = crate::NormalizedHead::new(plain);
            if plain.is_certified_by_direction(&g, label, &before) {
                prop_assert!(plain.gaps(&moved, label).iter().all(|&m| m <= 1e-15));
            }
        }
    }

    #[test]
    fn a6_whitened_gaps(head in linear_heads(3), seed in any::<u64>(), ridge in 0.0f64..1.0) {
        let mut random = Key::new(seed).stream();
        let z = normals(&mut random, 3 * 12, 0.0);
        let delta = normals(&mut random, 3, 0.0);
        let whitening = Whitening::of(&z, 3, ridge).unwrap();
        for label in 0..head.classes() {
            for (j, shift) in head.shifts(label, &delta).into_iter().enumerate() {
                let deviation = whitening.deviation(&head.gap_vector(j, label));
                at_most("a shift", shift.abs(), deviation * whitening.length(&delta))?;
                at_most("a deviation", deviation, whitening.constant(&head))?;
            }
        }
    }

    #[test]
    fn b3_regression((z, moved) in points(3), outputs in 1usize..5, seed in any::<u64>(), t in 0.01f64..10.0) {
        let mut random = Key::new(seed).stream();
        let head = RegressionHead::new(3, normals(&mut random, 3 * outputs, 0.0), normals(&mut random, outputs, 0.0));
        let target = normals(&mut random, outputs, 0.0);
        let r = LpNorm::L2.distance(&z, &moved);
        let error = |z: &[f64]| LpNorm::L2.distance(&head.predict(z), &target);
        let bound = head.squared_bound(&z, &target, r);
        at_most("the squared error", error(&moved).powi(2), bound)?;
        let shift = head.constant() * r;
        at_most("its parts", bound, (1.0 + t) * error(&z).powi(2) + (1.0 + 1.0 / t) * shift * shift)?;
        for loss in LOSSES {
            let sum = |z: &[f64]| -> f64 {
                head.predict(z).iter().zip(&target).map(|(&p, &t)| loss.value(loss.at(p, t))).sum()
            };
            let bound = head.scalar_bound(loss, &z, &target, r);
            at_most("a loss of one number", sum(&moved), bound)?;
            if let Some(lipschitz) = loss.lipschitz() {
                let additive = sum(&z) + head.output_constants().iter().map(|c| lipschitz * c * r).sum::<f64>();
                at_most("its additive form", bound, additive)?;
            }
        }
    }

    /// Over a population: the mean of squares is within Minkowski's bound.
    #[test]
    fn b3_mean_squares(seed in any::<u64>(), n in 1usize..20, constant in 0.0f64..5.0) {
        let mut random = Key::new(seed).stream();
        let (errors, radii) = (normals(&mut random, n, 0.0), normals(&mut random, n, 0.0));
        let mean = |of: &dyn Fn(usize) -> f64| (0..n).map(of).sum::<f64>() / n as f64;
        let adversarial = mean(&|i| squared_bound(errors[i], constant * radii[i].abs()));
        let bound = mean_squared_bound(mean(&|i| errors[i].powi(2)), constant, mean(&|i| radii[i].powi(2)));
        at_most("the mean squared error", adversarial, bound)?;
    }

    /// The simple radius is within the certified one, and no query inside that changes its label.
    #[test]
    fn b4_neighbors(seed in any::<u64>(), n in 3usize..20, k in 0usize..3, d in 1usize..4) {
        let mut random = Key::new(seed).stream();
        let labels: Vec<usize> = (0..n).map(|_| random.below(2)).collect();
        let head = KnnHead::new(d, (2 * k + 1).min(n - 1 + n % 2), normals(&mut random, n * d, 0.0), labels);
        let z = normals(&mut random, d, 0.0);
        for label in 0..2 {
            let radius = head.certified_radius(&z, label);
            at_most("the simple radius", head.simple_radius(&z, label), radius)?;
            prop_assert_eq!(radius > 0.0, head.votes_for(&z, label));
            for _ in 0..4 {
                let direction = normals(&mut random, d, 0.0);
                let scale = 0.999_999 * radius.min(100.0) / LpNorm::L2.of(&direction);
                let moved: Vec<f64> = z.iter().zip(&direction).map(|(z, u)| z + scale * u).collect();
                prop_assert!(radius == 0.0 || head.votes_for(&moved, label), "{radius}");
            }
        }
    }
}
