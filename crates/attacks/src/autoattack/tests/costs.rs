//! What a suite costs, sample by sample.

use super::{NORMS, Network, samples, threat};
use crate::autoattack::square_state::{Extents, Square, SquareState};
use crate::autoattack::{AutoAttack, Mode, RunConfig, SuiteOutcome, SuiteRun, Version, auto_attack};
use crate::driver::EarlyExit;
use crate::threat::{Norm, Threat};
use std::cell::Cell;
use tarrl_tensor::{Key, Tensor, cpu};

/// Logits whose order nothing in the box changes: the first class stands high on a field of teeth, which turn the sign
/// of its slope every fifteenth of a pixel, so that no attack converges.
fn constant_order(u: &Tensor, k: usize) -> Tensor {
    let m = u.shape()[0];
    let d = u.shape().len() / m;
    let places: Vec<f32> = (0..d).map(|i| 0.37 * i as f32).collect();
    let line = &u.reshape([m, d]).mul_scalar(30.0) + &Tensor::new(u.device(), [1, d], &places);
    // A line folded again and again: teeth from −1 to 1, each two wide.
    let teeth = (0..6).rev().fold(line, |t, i| t.abs().add_scalar(-f64::from(1 << i)));
    let first = |cell: usize| if cell.is_multiple_of(k) { 0.01f32 } else { 0.0 };
    let field: Vec<f32> = (0..d * k).map(first).collect();
    let order: Vec<f32> = (0..k).map(|c| if c == 0 { 0.03 * d as f32 } else { -1e-3 * c as f32 }).collect();
    &teeth.matmul(&Tensor::new(u.device(), [d, k], &field)) + &Tensor::new(u.device(), [1, k], &order)
}

/// Two half spaces with their boundary 1.2 ε beyond an image of gray, which the ball does not reach; other classes as far.
fn boundaries_out_of_reach(u: &Tensor, k: usize, dual: f64) -> Tensor {
    let m = u.shape()[0];
    let d = u.shape().len() / m;
    // All boundaries a little apart, so that no class is ever out of reach.
    let slope = |i: usize, c: usize| if c == 0 { 0.0 } else { 1.0 + 0.01 * ((i * c) % 7) as f64 };
    let slopes: Vec<f64> = (0..d * k).map(|cell| slope(cell / k, cell % k)).collect();
    let gap = |c: usize| {
        let column = (0..d).map(|i| slope(i, c));
        let length =
            if dual == 1.0 { column.sum::<f64>() } else { column.map(|v| v * v).sum::<f64>().sqrt() };
        if c == 0 { 0.0 } else { -1.2 * EPSILON * length }
    };
    let gaps: Vec<f64> = (0..k).map(gap).collect();
    let put = |shape: [usize; 2], v: &[f64]| Tensor::new(u.device(), shape, v).cast(u.dtype());
    &u.add_scalar(-0.5).reshape([m, d]).matmul(&put([d, k], &slopes)) + &put([1, k], &gaps)
}

const EPSILON: f64 = 0.1;

fn one_image(
    version: Version,
    norm: Norm,
    h: usize,
    logits: &dyn Fn(&Tensor) -> Tensor,
) -> (SuiteOutcome, u32) {
    let x = Tensor::new(&cpu(), [1, h, h, 1], &vec![0.5f32; h * h]);
    let seen = Cell::new(0);
    let logits = |u: &Tensor| {
        seen.set(seen.get() + u.shape()[0] as u32);
        logits(u)
    };
    let config = AutoAttack::new(version);
    let found = auto_attack(&logits, &x, &[0], &Threat::new(norm, EPSILON), &config, &[Key::new(1)]);
    assert!(!found.success[0]);
    (found, seen.get())
}

/// Evaluations of Square at most.
const SQUARE: u32 = 5001;

/// The reference spends 7,857 forward and 1,910 backward passes on any robust image. Here, where FAB meets no other
/// class: 1 clean evaluation, 101 and 100 of APGD, 9 × (101 and 100) of its targets, one from which FAB sets out for all of
/// its targets, 9 × (100 and 100) of its steps, whose ends are the next step's beginnings, and at most 5,001 of Square.
/// In l2 few proposals of Square come twice; in the cube many do.
#[test]
fn a_robust_image_costs_the_passes_derived() {
    for norm in [Norm::Linf, Norm::L2] {
        let (found, seen) = one_image(Version::Standard, norm, 9, &|u| constant_order(u, 10));
        let most = 1 + 101 + 9 * 101 + (1 + 9 * 100) + SQUARE;
        assert_eq!(most, 6913);
        assert_eq!(found.backward[0], 1900);
        match norm {
            Norm::L2 => assert!((most - 300..=most).contains(&found.forward[0]), "{}", found.forward[0]),
            _ => assert!((most - SQUARE..most - 500).contains(&found.forward[0]), "{}", found.forward[0]),
        }
        assert_eq!(seen, found.forward[0], "every row that the model sees is counted");
    }
}

/// Where each step of FAB crosses a boundary out of reach, it evaluates two points in all steps but the last: 7,804 at most.
#[test]
fn a_robust_image_near_other_classes_costs_at_most_the_passes_derived() {
    for (norm, dual) in [(Norm::Linf, 1.0), (Norm::L2, 2.0)] {
        let (found, seen) = one_image(Version::Standard, norm, 9, &|u| boundaries_out_of_reach(u, 10, dual));
        let most = 1 + 101 + 9 * 101 + (1 + 9 * 199) + SQUARE;
        assert_eq!(most, 7804);
        assert!(found.forward[0] <= most && found.backward[0] <= 1900, "{norm}");
        assert_eq!(seen, found.forward[0]);
    }
}

/// l1: five starts of 103 and 100 (three stages end in an evaluation without a gradient), five targets.
#[test]
fn a_robust_image_in_l1_costs_at_most_the_passes_derived() {
    let (found, seen) = one_image(Version::Standard, Norm::L1, 3, &|u| constant_order(u, 10));
    let most = 1 + 10 * 103 + 901 + SQUARE;
    assert!(found.forward[0] <= most && found.backward[0] <= 10 * 100 + 900);
    assert_eq!(seen, found.forward[0]);
}

/// Fewer classes have fewer targets; FAB without a target takes a gradient for each other class.
#[test]
fn few_classes_have_fewer_targets_and_passes() {
    for k in [2u32, 3] {
        let (found, _) = one_image(Version::Standard, Norm::L2, 9, &|u| constant_order(u, k as usize));
        let targets = k - 1;
        let most = 1 + 101 * (1 + targets) + 1 + 100 * targets + SQUARE;
        assert!((most - 300..=most).contains(&found.forward[0]), "{}", found.forward[0]);
        assert_eq!(found.backward[0], 100 * (1 + 2 * targets));
    }
    let (found, _) = one_image(Version::Plus, Norm::L2, 9, &|u| constant_order(u, 3));
    let runs = 5 + 5 + 2;
    assert_eq!(found.backward[0], 100 * (runs + 5 * 2 + 2));
    let most = 1 + 101 * (runs + 5) + (1 + 2 * 100) + SQUARE;
    assert!((most - 300..=most).contains(&found.forward[0]), "{}", found.forward[0]);
}

/// Twenty draws of each evaluation: 20 clean, 2 × 101 evaluations, 2 × 100 gradients.
#[test]
fn a_random_model_costs_twenty_draws_of_each_evaluation() {
    let (found, seen) = one_image(Version::Rand, Norm::Linf, 3, &|u| constant_order(u, 10));
    assert_eq!((found.forward[0], found.backward[0]), (20 * 203, 20 * 200));
    assert_eq!(seen, found.forward[0]);
}

/// Answers that are not evaluated twice are the same: two draws of a deterministic model are evaluated one by one, at every
/// point that an attack visits, and change nothing but the passes.
#[test]
fn skipping_known_points_changes_only_the_passes() {
    let network = Network::new(5);
    let (x, labels, keys) = samples(&network, 12);
    let logits = |u: &Tensor| network.logits(u);
    for norm in NORMS {
        let attack = |version, draws| {
            let run = RunConfig { draws, ..RunConfig::default() };
            let config = AutoAttack { version, steps: 30, queries: 300, run, ..AutoAttack::default() };
            auto_attack(&logits, &x, &labels, &threat(norm), &config, &keys)
        };
        for version in [Version::Standard, Version::Plus] {
            let (once, twice) = (attack(version, 1), attack(version, 2));
            assert!(once.success.contains(&false));
            assert_eq!(once.success, twice.success);
            assert_eq!(once.origin, twice.origin);
            assert_eq!(once.margin, twice.margin);
            assert_eq!(once.adversarial.to_vec::<f32>(), twice.adversarial.to_vec::<f32>());
            for i in 0..12 {
                let saved = i64::from(twice.forward[i]) - 2 * i64::from(once.forward[i]);
                assert!(saved >= if once.success[i] { 0 } else { 2 * 3 });
            }
        }
    }
}

/// Square goes from new point to new point in the same order, whether it evaluates those it knows again or skips
/// them.
#[test]
fn square_skips_points_it_knows_and_visits_the_others_in_order() {
    let ball = crate::autoattack::sample_ball::SampleBall::new(&Threat::linf(EPSILON), EPSILON, &[0.5; 49]);
    let key = Key::new(3);
    // Any function will do.
    let margin = |u: &[f32]| u.iter().fold(Key::new(1), |key, v| key.fold(u64::from(v.to_bits())));
    let search = |deterministic| {
        let config = Square { queries: 2000, ..Square::default() };
        let mut search = SquareState::new(&ball, &config, Extents { h: 7, w: 7, c: 1 }, key);
        let mut points = vec![search.point().to_vec()];
        while search.advance(
            &ball,
            1.0 + f64::from(margin(search.point()).stream().unit()),
            key,
            deterministic,
        ) {
            points.push(search.point().to_vec());
        }
        let evaluations = points.len();
        let bits = |u: &Vec<f32>| u.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut known = std::collections::HashSet::new();
        points.retain(|u| known.insert(bits(u)));
        (points, evaluations)
    };
    let ((all, evaluations), (fewer, fewer_evaluations)) = (search(false), search(true));
    assert!(all == fewer, "{} new points and {}", all.len(), fewer.len());
    assert_eq!(evaluations, 2001);
    assert!(fewer_evaluations < 1500, "{fewer_evaluations}");
}

#[test]
fn a_misclassified_input_costs_one_evaluation() {
    let network = Network::new(4);
    let (x, labels, keys) = samples(&network, 6);
    let wrong: Vec<u32> = labels.iter().map(|y| (y + 1) % 4).collect();
    let logits = |u: &Tensor| network.logits(u);
    let found = auto_attack(&logits, &x, &wrong, &Threat::linf(0.01), &AutoAttack::default(), &keys);
    assert!(found.success.iter().all(|&s| s) && found.forward == [1; 6] && found.backward == [0; 6]);
    assert_eq!(found.origin[0].as_ref().unwrap().attack, "clean");
    assert_eq!(found.adversarial.to_vec::<f32>(), x.to_vec::<f32>());
}

/// A budget ends a sample before its passes exceed it, and is flagged; so is a gradient that is zero.
#[test]
fn a_budget_and_a_zero_gradient_are_flagged() {
    let network = Network::new(4);
    let (x, labels, keys) = samples(&network, 12);
    let logits = |u: &Tensor| network.logits(u);
    let run = RunConfig { budget: Some(25), ..RunConfig::default() };
    let config = AutoAttack { run, ..AutoAttack::default() };
    let found = auto_attack(&logits, &x, &labels, &threat(Norm::Linf), &config, &keys);
    for i in 0..12 {
        assert!(found.forward[i] + found.backward[i] <= 25);
        assert_eq!(found.flags[i].out_of_budget, !found.success[i]);
    }
    assert!(found.success.contains(&false));
    let flat = |u: &Tensor| constant_order(&u.mul_scalar(0.0), 4);
    let found = auto_attack(&flat, &x, &[0; 12], &threat(Norm::Linf), &config, &keys);
    assert!(found.flags.iter().all(|f| f.zero_gradient && !f.bad_gradient));
}

/// Broken samples that stay cost more and change no outcome.
#[test]
fn early_exit_saves_passes_and_changes_no_success() {
    let network = Network::new(5);
    let (x, mut labels, keys) = samples(&network, 16);
    labels[3] = (labels[3] + 1) % 5;
    let logits = |u: &Tensor| network.logits(u);
    for norm in NORMS {
        let attack = |early_exit| {
            let run = RunConfig { early_exit, ..RunConfig::default() };
            let config =
                AutoAttack { steps: 20, queries: 30, mode: Mode::Paper, run, ..AutoAttack::default() };
            auto_attack(&logits, &x, &labels, &threat(norm), &config, &keys)
        };
        let [short, long, longest] = [EarlyExit::AtOnce, EarlyExit::AfterRun, EarlyExit::Never].map(attack);
        assert!(
            short.success.contains(&true) && short.success.contains(&false),
            "{norm}: {:?}",
            short.success
        );
        for (less, more) in [(&short, &long), (&long, &longest)] {
            assert_eq!(less.success, more.success);
            assert_eq!(less.origin, more.origin);
            for i in 0..16 {
                assert!(less.forward[i] <= more.forward[i] && less.margin[i] >= more.margin[i]);
                assert!(less.success[i] || less.forward[i] == more.forward[i]);
            }
            assert!(less.forward.iter().sum::<u32>() < more.forward.iter().sum::<u32>());
        }
        // A mistake from the start is done, unless samples never leave: then it is attacked from end to end.
        assert_eq!((short.forward[3], long.forward[3]), (1, 1));
        assert!((0..16).all(|i| longest.backward[i] >= 20 * 5), "{:?}", longest.backward);
    }
}

/// The model can tell the draws of an evaluation apart, and the mean gradient is used.
#[test]
fn queries_name_each_draw_and_the_mean_gradient_is_used() {
    let network = Network::new(3);
    let (x, labels, keys) = samples(&network, 3);
    let config = AutoAttack { steps: 5, mode: Mode::Paper, ..AutoAttack::new(Version::Rand) };
    let ball = threat(Norm::Linf).around(&x);
    let visits = std::cell::RefCell::new(std::collections::HashSet::new());
    let mut run = SuiteRun::new(ball, &labels, &keys, config.parts(Norm::Linf), config.run);
    while run.round(&|u, query| {
        for (&row, &pass) in query.rows.iter().zip(query.passes) {
            assert!(visits.borrow_mut().insert((row, pass)), "draw {pass} of sample {row} comes twice");
        }
        network.logits(u)
    }) {}
    let found = run.finish();
    assert_eq!(visits.borrow().len() as u32, found.forward.iter().sum::<u32>());
}
