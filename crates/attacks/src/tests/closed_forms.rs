//! Problems whose worst point is known.

use super::{keys, normal, unit};
use crate::{LabelLoss, Norm, Pgd, Threat, attack_classifier, pgd};
use tarrl_tensor::{DType, Tensor, cpu};

/// Two linear classes: the margin falls by Σ_i of |w_i| times the room of coordinate i, at most ε.
#[test]
fn pgd_reaches_the_worst_margin_of_a_linear_model_in_a_cube() {
    let (n, d, epsilon) = (6, 10, 0.2);
    let (x, w) = (unit(1, n, d, DType::F64), normal(2, d, 2, DType::F64));
    let config = Pgd { steps: 12, step_size: 0.05, ..Pgd::default() };
    for loss in [LabelLoss::CrossEntropy, LabelLoss::Margin] {
        let labels: Vec<u32> = (0..n as u32).map(|i| i % 2).collect();
        let found = attack_classifier(
            &|u| u.matmul(&w),
            &x,
            &labels,
            loss,
            &Threat::linf(epsilon),
            &config,
            &keys(3, n),
        );
        for (i, point) in x.to_vec::<f64>().chunks(d).enumerate() {
            let gap = gap_vector(&w.to_vec::<f64>(), labels[i]);
            let clean: f64 = point.iter().zip(&gap).map(|(x, g)| x * g).sum();
            let fall: f64 = point.iter().zip(&gap).map(|(x, g)| g.abs() * room(*x, -g).min(epsilon)).sum();
            let (margin, worst) = (found.margin[i], clean - fall);
            assert!((margin - worst).abs() < 1e-12, "{i}: {margin} but {worst}");
            assert_eq!(found.success[i], margin < 0.0);
        }
    }
}

/// The same in a Euclidean ball. Where the box cuts, the best displacement is the gap vector times one
/// factor, each coordinate cut to its room; the ascent comes near it.
#[test]
fn pgd_reaches_the_worst_margin_of_a_linear_model_in_a_ball() {
    let (n, d) = (8, 10);
    let w = normal(4, d, 2, DType::F64);
    let labels = vec![0; n];
    let gap = gap_vector(&w.to_vec::<f64>(), 0);
    let config = Pgd { steps: 300, step_size: 0.03, ..Pgd::default() };
    let mut cut = 0;
    for (epsilon, squeeze) in [(0.3, 0.2), (0.6, 1.0)] {
        // Squeezed inputs lie in [0.4, 0.6], where the box does not cut.
        let x = unit(5, n, d, DType::F64).add_scalar(-0.5).mul_scalar(squeeze).add_scalar(0.5);
        let found = attack_classifier(
            &|u| u.matmul(&w),
            &x,
            &labels,
            LabelLoss::Margin,
            &Threat::l2(epsilon),
            &config,
            &keys(6, n),
        );
        for (i, point) in x.to_vec::<f64>().chunks(d).enumerate() {
            let clean: f64 = point.iter().zip(&gap).map(|(x, g)| x * g).sum();
            let best = largest_fall(point, &gap, epsilon);
            let fall = clean - found.margin[i];
            let free = epsilon * gap.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(fall <= best * (1.0 + 1e-9), "{i}: fell by {fall}, but {best} is the most");
            if best > free * (1.0 - 1e-12) {
                assert!((fall - best).abs() < 1e-9, "{i}: fell by {fall} of {best}");
            } else {
                cut += 1;
                assert!(fall > 0.97 * best, "{i}: fell by {fall} of {best}");
            }
        }
    }
    assert!(cut >= 4, "the box cut only {cut} samples: the test is too easy");
}

/// A linear encoder A moves by at most ε σ(A) in the Euclidean ball.
#[test]
fn linear_encoder_in_a_ball_reaches_its_singular_value() {
    let (n, d, out, epsilon) = (5, 8, 6, 0.05);
    let a = normal(7, d, out, DType::F64);
    let x = unit(8, n, d, DType::F64).mul_scalar(0.5).add_scalar(0.25);
    let z = x.matmul(&a);
    let moved = |u: &Tensor, _: &[usize]| (&u.matmul(&a) - &z).square().sum(1).reshape([n]);
    let config = Pgd { steps: 100, step_size: 0.1, restarts: 2, ..Pgd::default() };
    let found = pgd(&x, &moved, &Threat::l2(epsilon), &config, &keys(9, n));
    let most = epsilon * largest_singular_value(&a.to_vec::<f64>(), d, out);
    for value in found.value {
        let shift = value.sqrt();
        assert!(shift <= most * (1.0 + 1e-9), "{shift} but at most {most}");
        assert!(shift >= most * (1.0 - 1e-3), "{shift} of {most}");
    }
}

/// A convex function is largest at a corner of the cube: 2^d of them, all tried.
#[test]
fn linear_encoder_in_a_cube_reaches_the_best_corner() {
    let (n, d, out, epsilon) = (4, 8, 5, 0.05);
    let a = normal(10, d, out, DType::F64);
    let x = unit(11, n, d, DType::F64).mul_scalar(0.5).add_scalar(0.25);
    let z = x.matmul(&a);
    let moved = |u: &Tensor, _: &[usize]| (&u.matmul(&a) - &z).square().sum(1).reshape([n]);
    let config = Pgd { steps: 20, step_size: 0.02, restarts: 8, ..Pgd::default() };
    let found = pgd(&x, &moved, &Threat::linf(epsilon), &config, &keys(12, n));
    let weights = a.to_vec::<f64>();
    let corner = |signs: usize| {
        let sign = |i: usize| if signs >> i & 1 == 1 { epsilon } else { -epsilon };
        (0..out).map(|j| (0..d).map(|i| sign(i) * weights[i * out + j]).sum::<f64>().powi(2)).sum::<f64>()
    };
    let most = (0..1 << d).map(corner).fold(0.0, f64::max);
    for value in found.value {
        assert!(value <= most * (1.0 + 1e-9), "{value} but at most {most}");
        assert!(value >= most * (1.0 - 1e-9), "{value} of {most}");
    }
}

/// FGSM on a label loss is x + ε sign(g), cut with the box.
#[test]
fn single_step_is_the_sign_of_the_gradient() {
    let (n, d, epsilon) = (5, 6, 0.03);
    let (x, w) = (unit(13, n, d, DType::F32), normal(14, d, 3, DType::F32));
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let loss = |u: &Tensor, rows: &[usize]| {
        let labels: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
        LabelLoss::CrossEntropy.of(&u.matmul(&w), &labels)
    };
    let found = crate::fgsm(&x, &loss, &Threat::linf(epsilon));
    let (_, g) = tarrl_tensor::value_and_grad(&x, |u| loss(u, &[0, 1, 2, 3, 4]).sum_all());
    let wanted = (&x + &g.sign().mul_scalar(epsilon)).clamp(0.0, 1.0).to_vec::<f32>();
    for (found, wanted) in found.best.to_vec::<f32>().iter().zip(wanted) {
        // Bounds are rounded inward: by one unit in the last place of a number below one.
        assert!((found - wanted).abs() <= f32::EPSILON, "{found} but {wanted}");
    }
    assert_eq!((found.forward, found.backward), (vec![2; n], vec![1; n]));
}

#[test]
fn one_coordinate_without_a_box_reaches_the_end_of_its_ball() {
    for norm in [Norm::Linf, Norm::L2] {
        let x = Tensor::new(&cpu(), [1, 1], &[0.5f64]);
        let threat = Threat { bounds: None, ..Threat::new(norm, 0.25) };
        let found =
            pgd(&x, &|u, _| u.reshape([1]), &threat, &Pgd { step_size: 1.0, ..Pgd::default() }, &keys(1, 1));
        assert!((found.value[0] - 0.75).abs() < 1e-14, "{norm:?}: one coordinate, one sample, no box");
    }
}

/// `w_y − w_other` of weights `(d, 2)`.
fn gap_vector(w: &[f64], label: u32) -> Vec<f64> {
    let sign = if label == 0 { 1.0 } else { -1.0 };
    w.chunks(2).map(|w| sign * (w[0] - w[1])).collect()
}

/// How far a coordinate can move in the direction of `towards`.
fn room(x: f64, towards: f64) -> f64 {
    if towards > 0.0 { 1.0 - x } else { x }
}

/// max of −gap·δ over ‖δ‖ ≤ ε in the box, by bisection of the factor.
fn largest_fall(x: &[f64], gap: &[f64], epsilon: f64) -> f64 {
    let displacement = |factor: f64| -> Vec<f64> {
        x.iter().zip(gap).map(|(x, g)| -g.signum() * (factor * g.abs()).min(room(*x, -g))).collect()
    };
    let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    let (mut lo, mut hi) = (0.0, 1e6);
    for _ in 0..200 {
        let middle = 0.5 * (lo + hi);
        if length(&displacement(middle)) <= epsilon { lo = middle } else { hi = middle }
    }
    displacement(lo).iter().zip(gap).map(|(d, g)| -d * g).sum()
}

/// By power iteration, converged: a lower bound, so that the tests allow 1e-9.
fn largest_singular_value(a: &[f64], d: usize, out: usize) -> f64 {
    let mut v = vec![1.0; d];
    let mut value = 0.0;
    for _ in 0..5000 {
        let av: Vec<f64> = (0..out).map(|j| (0..d).map(|i| v[i] * a[i * out + j]).sum()).collect();
        let w: Vec<f64> = (0..d).map(|i| (0..out).map(|j| a[i * out + j] * av[j]).sum()).collect();
        let length = w.iter().map(|w| w * w).sum::<f64>().sqrt();
        value = av.iter().map(|v| v * v).sum::<f64>().sqrt();
        v = w.iter().map(|w| w / length).collect();
    }
    value
}
