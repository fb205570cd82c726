//! Minimal-norm attacks on images at the faces of the box, on images that are wrong already, and at extreme logits.

use super::{keys, network, unit};
use crate::{Ball, CarliniWagner, Classifier, DeepFool, HopSkipJump, Limits, Norm, Outcome, Threat};
use tarrl_tensor::{DType, Tensor, cpu};

/// Logits (sum − c, 0), so that class 0 wins while the sum is above c.
fn sum_above(c: f64) -> impl Fn(&Tensor) -> Tensor {
    move |u| {
        let sum = u.sum(1).reshape([u.shape()[0], 1]);
        let w = Tensor::new(&cpu(), [1, 2], &[1.0f64, 0.0]);
        &sum.matmul(&w) + &Tensor::new(&cpu(), [1, 2], &[-c, 0.0])
    }
}

/// Coordinates at the lower face cannot go down, so that each of the `free` ones has to go 0.3.
#[test]
fn deepfool_leaves_out_coordinates_at_a_face() {
    for (d, free) in [(10usize, 10usize), (10, 5), (20, 4), (50, 5), (100, 5), (100, 2)] {
        for (norm, exact) in [(Norm::Linf, 0.3), (Norm::L2, 0.3 * (free as f64).sqrt())] {
            let x: Vec<f64> = (0..d).map(|i| if i < free { 0.9 } else { 0.0 }).collect();
            let ball = Threat::new(norm, 100.0).around(&Tensor::new(&cpu(), [1, d], &x));
            let logits = sum_above(0.6 * free as f64);
            let classifier = Classifier { logits: &logits, labels: &[0] };
            let found = DeepFool::default().run(classifier, &ball, Limits::default());
            let distance = found.distances()[0];
            assert!(found.success()[0], "{d} {free} {norm}");
            assert!((exact..1.021 * exact).contains(&distance), "{d} {free} {norm}: {distance}, {exact}");
            assert_eq!(found.forward, [2], "{d} {free} {norm}");
        }
    }
}

/// A sample all of whose coordinates are at faces that the step would leave has no gradient to follow.
#[test]
fn deepfool_flags_a_sample_that_the_box_holds() {
    let ball = Threat::l2(100.0).around(&Tensor::new(&cpu(), [1, 3], &[0.0f64; 3]));
    let logits = sum_above(-1.0);
    let found =
        DeepFool::default().run(Classifier { logits: &logits, labels: &[0] }, &ball, Limits::default());
    assert!(found.flags[0].zero_gradient && !found.success()[0]);
}

#[test]
fn deepfool_finds_the_same_distance_at_any_scale_of_the_logits() {
    let (x, z) = (unit(1, 6, 10, DType::F32), network(2, 10, 4, DType::F32));
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    for norm in [Norm::L2, Norm::Linf] {
        let at = |scale: f64| {
            let logits = |u: &Tensor| z(u).mul_scalar(scale);
            let classifier = Classifier { logits: &logits, labels: &labels };
            DeepFool::default().run(classifier, &Threat::new(norm, 100.0).around(&x), Limits::default())
        };
        let plain = at(1.0).distances();
        assert!(plain.iter().all(|distance| distance.is_finite()), "{norm} {plain:?}");
        for scale in [1e-25, 1e20] {
            for (distance, plain) in at(scale).distances().iter().zip(&plain) {
                assert!((distance / plain - 1.0).abs() < 1e-3, "{norm} {scale}: {distance}, {plain}");
            }
        }
    }
}

/// The three attacks, with the norms of each.
fn family(check: impl Fn(&str, Norm, &dyn Fn(Classifier<'_>, &Ball) -> Outcome)) {
    let limits = Limits::default();
    for norm in [Norm::L2, Norm::Linf] {
        check("DeepFool", norm, &|c, ball| DeepFool::default().run(c, ball, limits));
        let hop = HopSkipJump { steps: 10, initial_queries: 60, ..HopSkipJump::default() };
        check("HopSkipJump", norm, &|c, ball| hop.run(c, ball, &keys(3, ball.len()), limits));
    }
    let cw = CarliniWagner { steps: 100, searches: 6, initial_c: 0.1, ..CarliniWagner::default() };
    check("CW", Norm::L2, &|c, ball| cw.run(c, ball, limits));
}

#[test]
fn an_image_that_is_wrong_already_is_broken_by_clean_at_distance_zero() {
    let (x, z) = (unit(1, 4, 10, DType::F32), network(2, 10, 4, DType::F32));
    let logits = |u: &Tensor| z(u);
    let mut labels: Vec<u32> = z(&x).argmax(1).to_vec();
    labels[..2].iter_mut().for_each(|y| *y = (*y + 1) % 4);
    for epsilon in [0.0, 0.5] {
        family(|name, norm, attack| {
            let ball = Threat::new(norm, epsilon).around(&x);
            let found = attack(Classifier { logits: &logits, labels: &labels }, &ball);
            for i in 0..4 {
                let (wrong, distance) = (i < 2, found.distances()[i]);
                assert_eq!(distance == 0.0, wrong, "{name} {norm} {epsilon}: {distance}");
                let origin = found.origin[i].as_ref().map(|origin| origin.attack.as_str());
                assert_eq!(origin == Some("clean"), wrong, "{name} {norm} {epsilon}: {origin:?}");
                assert!(found.success()[i] || !wrong, "{name} {norm} {epsilon}");
                assert!((found.forward[i] == 1) == wrong, "{name} {norm} {epsilon}");
            }
            if epsilon == 0.0 {
                assert_eq!(found.success(), [true, true, false, false], "{name} {norm}");
            }
        });
    }
}

/// Half of the coordinates are black. No attack of the family is twice as far as another.
#[test]
fn median_distances_of_the_family_agree_on_images_with_black() {
    let (n, d) = (16, 20);
    let z = network(5, d, 4, DType::F32);
    let values = unit(4, n, d, DType::F32).to_vec::<f32>();
    let values: Vec<f32> =
        values.iter().enumerate().map(|(i, v)| if i % 2 == 0 { 0.0 } else { *v }).collect();
    let x = Tensor::new(&cpu(), [n, d], &values);
    let logits = |u: &Tensor| z(u);
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    let medians = std::cell::RefCell::new(Vec::new());
    family(|name, norm, attack| {
        let ball = Threat::new(norm, 100.0).around(&x);
        let mut distances = attack(Classifier { logits: &logits, labels: &labels }, &ball).distances();
        distances.sort_by(f64::total_cmp);
        medians.borrow_mut().push((norm, name.to_owned(), distances[n / 2]));
    });
    let medians = medians.into_inner();
    for (norm, name, distance) in &medians {
        for (_, other, least) in medians.iter().filter(|(of, ..)| of == norm) {
            assert!(*distance < 2.0 * least, "{norm}: {name} {distance}, {other} {least}");
        }
    }
}
