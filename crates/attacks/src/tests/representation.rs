//! Attacks without labels.

use super::{keys, network, normal, unit};
use crate::representation::{Distance, away, impersonate, instance_wise, stretch, towards};
use crate::{Limits, Norm, Pgd, Problem, Start, Threat, pgd};
use tarrl_tensor::{DType, Tensor, cpu, value_and_grad};

fn vector(values: &[f64]) -> Tensor {
    Tensor::new(&cpu(), [1, values.len()], values)
}

#[test]
fn distances_are_those_worked_out_by_hand() {
    let (z, r) = (vector(&[3.0, 4.0]), vector(&[4.0, -3.0]));
    let of = |distance: Distance| distance.between(&z, &r).item();
    assert_eq!((of(Distance::SquaredL2), of(Distance::L1)), (50.0, 8.0));
    assert!((of(Distance::L2) - 50f64.sqrt()).abs() < 1e-15);
    // 12 − 12 = 0: a right angle.
    assert!((of(Distance::Cosine) - 1.0).abs() < 1e-15);
    // Two outcomes with odds e^7 and e^−1: p = σ(7), q = σ(−1).
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let (p, q) = (sigmoid(7.0), sigmoid(-1.0));
    let kl = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
    assert!((of(Distance::Kl) - kl).abs() < 1e-12, "{} but {kl}", of(Distance::Kl));
    assert_eq!(Distance::Cosine.between(&vector(&[0.0, 0.0]), &r).item(), 1.0);
}

/// At the reference itself every distance but l1 has the gradient zero, and none has one that is no
/// number: the trap that a clean start falls into.
#[test]
fn nothing_pulls_at_the_reference() {
    let z = vector(&[0.3, -0.8, 0.5]);
    for distance in [Distance::SquaredL2, Distance::L2, Distance::L1, Distance::Cosine, Distance::Kl] {
        let (value, gradient) =
            value_and_grad(&z, |z| distance.between(z, &vector(&[0.3, -0.8, 0.5])).sum_all());
        assert!(value.item().abs() < 1e-15);
        // Cosine and KL cancel to rounding.
        assert!(
            gradient.to_vec::<f64>().iter().all(|g| g.abs() < 1e-15),
            "{distance:?}: {gradient:?}",
            gradient = gradient.array()
        );
    }
}

/// One large singular value among small ones: three power iterations find its direction, and the start is
/// the end.
#[test]
fn the_spectral_start_is_the_top_direction() {
    let (n, d, epsilon) = (6, 7, 0.05);
    let scale: Vec<f64> = (0..d).map(|i| if i == 3 { 4.0 } else { 1.0 }).collect();
    let scale = Tensor::new(&cpu(), [1, d], &scale);
    let encoder = |u: &Tensor| u * &scale;
    let x = unit(1, n, d, DType::F64).mul_scalar(0.5).add_scalar(0.25);
    let clean = encoder(&x);
    let objective = away(&encoder, &clean, Distance::L2);
    let config = Pgd { steps: 0, start: Start::Spectral, include_clean: false, ..Pgd::default() };
    let found = pgd(&x, &objective, &Threat::l2(epsilon), &config, &keys(2, n));
    for value in &found.value {
        // The rest shrinks by (1/16)³ against a random beginning.
        assert!(*value > 0.999 * 4.0 * epsilon && *value <= 4.0 * epsilon * (1.0 + 1e-12), "{value}");
    }
    assert_eq!((found.forward, found.backward), (vec![4; n], vec![3; n]));
    let random =
        pgd(&x, &objective, &Threat::l2(epsilon), &Pgd { start: Start::Random, ..config }, &keys(2, n));
    assert!(random.value.iter().all(|value| *value < 0.95 * 4.0 * epsilon));
}

/// With the identity as encoder, an input comes nearer to another than to itself exactly when ε is more than
/// half of their distance.
#[test]
fn impersonation_has_a_closed_form() {
    let (n, d) = (8, 5);
    let x = unit(3, n, d, DType::F64).mul_scalar(0.3).add_scalar(0.35);
    let target = unit(4, n, d, DType::F64).mul_scalar(0.3).add_scalar(0.35);
    let encoder = |u: &Tensor| u.mul_scalar(1.0);
    let apart = Distance::L2.between(&x, &target).to_vec::<f64>();
    let evaluate = impersonate(&encoder, &x, &target, Distance::L2);
    for factor in [0.48, 0.52] {
        let radii: Vec<f64> = apart.iter().map(|d| factor * d).collect();
        let ball = Threat::l2(1.0).around_each(&x, &radii);
        let config = Pgd { steps: 60, step_size: 0.02, ..Pgd::default() };
        let found = config.run(&Problem::new(ball, &evaluate, &keys(5, n), Limits::default()));
        for (i, apart) in apart.iter().enumerate() {
            assert_eq!(found.success()[i], factor > 0.5);
            let distance = (1.0 - factor) * apart;
            assert!(
                (-found.value[i] - distance).abs() < 2e-3 * distance,
                "{} but {distance}",
                found.value[i]
            );
        }
    }
}

#[test]
fn the_stretch_of_a_linear_map_is_its_norm() {
    let (n, d) = (4, 6);
    let scale: Vec<f64> = (1..=d).map(|i| i as f64).collect();
    let scale = Tensor::new(&cpu(), [1, d], &scale);
    let encoder = |u: &Tensor| u * &scale;
    let x = unit(6, n, d, DType::F64).mul_scalar(0.2).add_scalar(0.4);
    let clean = encoder(&x);
    // ‖diag(1..6)‖: from l2 its largest entry, from l-infinity the length of the diagonal.
    for (norm, wanted) in [(Norm::L2, 6.0), (Norm::Linf, 91f64.sqrt()), (Norm::L1, 6.0)] {
        let objective = stretch(&encoder, (&x, &clean), norm, 1e-3);
        let config = Pgd { steps: 200, step_size: 0.02, restarts: 2, ..Pgd::default() };
        let found = pgd(&x, &objective, &Threat::new(norm, 0.1), &config, &keys(7, n));
        for value in found.value {
            assert!(value <= wanted * (1.0 + 1e-9), "{norm}: {value} above {wanted}");
            // The ratio has other maxima at the corners of the l1 ball.
            assert!(norm == Norm::L1 || value > 0.97 * wanted, "{norm}: {value} of {wanted}");
        }
    }
}

#[test]
fn the_contrastive_loss_is_its_formula_row_by_row() {
    let (n, d) = (4, 6);
    let encoder = network(8, d, 3, DType::F64);
    let (x, u) = (unit(9, n, d, DType::F64), unit(10, n, d, DType::F64));
    let encode = |u: &Tensor| encoder(u);
    let (clean, queue) = (encoder(&x), normal(11, 5, 3, DType::F64));
    let keys = Tensor::concat(&[&clean, &queue], 0);
    let loss = instance_wise(&encode, &keys, 0.5);
    let values = loss(&u, &[0, 1, 2, 3]).to_vec::<f64>();
    let (z, k) = (encoder(&u).to_vec::<f64>(), keys.to_vec::<f64>());
    for (i, z) in z.chunks(3).enumerate() {
        let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let similarity =
            |k: &[f64]| z.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / length(z) / length(k) / 0.5;
        let sum: f64 = k.chunks(3).map(|k| similarity(k).exp()).sum();
        let wanted = sum.ln() - similarity(&k[i * 3..][..3]);
        assert!((values[i] - wanted).abs() < 1e-12, "{} but {wanted}", values[i]);
        // Alone, and among other rows, a sample's value is the same.
        assert_eq!(loss(&u.slice(0, i, 1), &[i]).item(), values[i]);
    }
    let wanted = Distance::Cosine.between(&encoder(&u), &clean).neg().to_vec::<f64>();
    assert_eq!(towards(&encode, &clean, Distance::Cosine)(&u, &[0, 1, 2, 3]).to_vec::<f64>(), wanted);
}

#[test]
#[should_panic(expected = "no negatives")]
fn a_contrast_needs_negatives() {
    let encode = |u: &Tensor| u.clone();
    let _ = instance_wise(&encode, &vector(&[1.0, 2.0]), 0.5);
}
