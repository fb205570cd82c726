//! What a suite costs, sample by sample.

use super::{NORMS, Network, samples, threat};
use crate::suite::{AutoAttack, Mode, RunConfig, SuiteOutcome, SuiteRun, Version, auto_attack};
use crate::threat::{Norm, Threat};
use std::cell::Cell;
use tarrl_tensor::{Key, Tensor, cpu};

/// Logits that depend on the image and never change their order.
fn unshakable(u: &Tensor, k: usize) -> Tensor {
    let order: Vec<f32> = (0..k).map(|c| 100.0 - c as f32).collect();
    let m = u.shape()[0];
    let flat = u.reshape([m, u.shape().len() / m]);
    &flat.mean(1).reshape([m, 1]).broadcast_to([m, k]).mul_scalar(1e-3) + &Tensor::new(&cpu(), [1, k], &order)
}

fn one_image(version: Version, norm: Norm, k: usize) -> (SuiteOutcome, u32) {
    let x = Tensor::new(&cpu(), [1, 3, 3, 1], &[0.5f32; 9]);
    let seen = Cell::new(0);
    let logits = |u: &Tensor| {
        seen.set(seen.get() + u.shape()[0] as u32);
        unshakable(u, k)
    };
    let config = AutoAttack::new(version);
    let found = auto_attack(&logits, &x, &[0], &Threat::new(norm, 0.1), &config, &[Key::new(1)]);
    assert!(!found.success[0]);
    (found, seen.get())
}

/// The reference spends 7,857 forward and 1,910 backward passes on such an image. Here: 1 clean look, 101
/// and 100 of APGD, 9 × (101 and 100) of its targets and as many of FAB, whose check of a point
/// is the first look of the next step, and 5,001 of Square.
#[test]
fn a_robust_image() {
    for norm in [Norm::Linf, Norm::L2] {
        let (found, seen) = one_image(Version::Standard, norm, 10);
        assert_eq!((found.forward[0], found.backward[0]), (6921, 1900));
        assert!(found.forward[0] <= 6957 && found.backward[0] <= 1910);
        assert_eq!(seen, found.forward[0], "every row that the model sees is counted");
    }
}

/// l1: five starts of 103 and 100 (three stages end in a look without a gradient), five targets.
#[test]
fn a_robust_image_in_l1() {
    let (found, seen) = one_image(Version::Standard, Norm::L1, 10);
    assert_eq!((found.forward[0], found.backward[0]), (1 + 10 * 103 + 909 + 5001, 10 * 100 + 900));
    assert_eq!(seen, found.forward[0]);
}

/// Fewer classes have fewer targets; FAB without a target takes a gradient for each other class.
#[test]
fn few_classes() {
    for k in [2u32, 3] {
        let (found, _) = one_image(Version::Standard, Norm::Linf, k as usize);
        let targets = k - 1;
        assert_eq!(found.forward[0], 1 + 101 * (1 + 2 * targets) + 5001);
        assert_eq!(found.backward[0], 100 * (1 + 2 * targets));
    }
    let (found, _) = one_image(Version::Plus, Norm::Linf, 3);
    let runs = 5 + 5 + 2;
    assert_eq!(found.backward[0], 100 * (runs + 5 * 2 + 2));
    assert_eq!(found.forward[0], 1 + 101 * (runs + 5 + 2) + 5001);
}

/// Twenty draws of each look: 20 clean, 2 × 101 looks, 2 × 100 gradients.
#[test]
fn a_random_model() {
    let (found, seen) = one_image(Version::Rand, Norm::Linf, 10);
    assert_eq!((found.forward[0], found.backward[0]), (20 * 203, 20 * 200));
    assert_eq!(seen, found.forward[0]);
}

#[test]
fn a_mistake_costs_one_look() {
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
fn budgets_and_flags() {
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
    let flat = |u: &Tensor| unshakable(&u.mul_scalar(0.0), 4);
    let found = auto_attack(&flat, &x, &[0; 12], &threat(Norm::Linf), &config, &keys);
    assert!(found.flags.iter().all(|f| f.zero_gradient && !f.bad_gradient));
}

/// Broken samples that stay to the end of their run cost more and change no fate.
#[test]
fn compaction_saves_and_changes_nothing() {
    let network = Network::new(5);
    let (x, labels, keys) = samples(&network, 16);
    let logits = |u: &Tensor| network.logits(u);
    for norm in NORMS {
        let attack = |compact| {
            let run = RunConfig { compact, ..RunConfig::default() };
            let config =
                AutoAttack { steps: 20, queries: 30, mode: Mode::Paper, run, ..AutoAttack::default() };
            auto_attack(&logits, &x, &labels, &threat(norm), &config, &keys)
        };
        let (short, long) = (attack(true), attack(false));
        assert_eq!(short.success, long.success);
        assert_eq!(short.origin, long.origin);
        assert!(
            short.success.contains(&true) && short.success.contains(&false),
            "{norm}: {:?}",
            short.success
        );
        for i in 0..16 {
            assert!(short.forward[i] <= long.forward[i] && short.margin[i] >= long.margin[i]);
        }
        assert!(short.forward.iter().sum::<u32>() < long.forward.iter().sum::<u32>());
    }
}

/// The draws of a look are the model's to tell apart, and the mean gradient is used.
#[test]
fn draws_are_named() {
    let network = Network::new(3);
    let (x, labels, keys) = samples(&network, 3);
    let config = AutoAttack { steps: 5, mode: Mode::Paper, ..AutoAttack::new(Version::Rand) };
    let ball = threat(Norm::Linf).around(&x);
    let visits = std::cell::RefCell::new(std::collections::HashSet::new());
    let mut run = SuiteRun::new(ball, &labels, &keys, config.parts(Norm::Linf), config.run);
    while run.round(&|u, visit| {
        for (&row, &pass) in visit.rows.iter().zip(visit.passes) {
            assert!(visits.borrow_mut().insert((row, pass)), "draw {pass} of sample {row} comes twice");
        }
        network.logits(u)
    }) {}
    let found = run.finish();
    assert_eq!(visits.borrow().len() as u32, found.forward.iter().sum::<u32>());
}
