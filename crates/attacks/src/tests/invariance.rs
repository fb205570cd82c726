//! A sample's result depends on the sample and its key alone, to the last bit.

use super::{keys, network, unit};
use crate::{ClassifierOutcome, LabelLoss, Norm, Pgd, Threat, attack_classifier};
use tarrl_tensor::{Conv, Cpu, DType, Key, Tensor, cpu};

const N: usize = 9;
const D: usize = 14;

struct Problem {
    x: Tensor,
    labels: Vec<u32>,
    keys: Vec<Key>,
}

fn problem() -> Problem {
    Problem { x: unit(1, N, D, DType::F32), labels: (0..N as u32).map(|i| i % 3).collect(), keys: keys(2, N) }
}

/// The attack on the samples at `rows`, in that order.
fn attack(problem: &Problem, rows: &[usize], threat: &Threat, early_stop: bool) -> ClassifierOutcome {
    let index: Vec<u32> = rows.iter().map(|&i| i as u32).collect();
    let x = problem.x.gather(0, &tarrl_tensor::Array::new(&cpu(), [rows.len()], &index));
    let labels: Vec<u32> = rows.iter().map(|&i| problem.labels[i]).collect();
    let keys: Vec<Key> = rows.iter().map(|&i| problem.keys[i]).collect();
    let config = Pgd { steps: 6, step_size: 0.01, restarts: 3, early_stop, ..Pgd::default() };
    let f = network(3, D, 3, DType::F32);
    attack_classifier(&f, &x, &labels, LabelLoss::CrossEntropy, threat, &config, &keys)
}

/// Everything about sample `i` of an outcome, as bits.
fn bits(found: &ClassifierOutcome, i: usize) -> (Vec<u32>, Vec<u32>, [u64; 2], bool, [u32; 2]) {
    let row = |t: &Tensor| t.slice(0, i, 1).to_vec::<f32>().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    (
        row(&found.adversarial),
        row(&found.worst),
        [found.margin[i].to_bits(), found.loss[i].to_bits()],
        found.success[i],
        [found.forward[i], found.backward[i]],
    )
}

#[test]
fn batch_size_order_and_other_samples_change_no_bit() {
    let problem = problem();
    let all: Vec<usize> = (0..N).collect();
    let reversed: Vec<usize> = (0..N).rev().collect();
    for threat in [Threat::linf(0.02), Threat::l2(0.08), Threat::new(Norm::L1, 0.25)] {
        for early_stop in [false, true] {
            let together = attack(&problem, &all, &threat, early_stop);
            let backwards = attack(&problem, &reversed, &threat, early_stop);
            let successes = together.success.iter().filter(|s| **s).count();
            assert!((1..N).contains(&successes), "{successes} successes: compaction is not exercised");
            for i in 0..N {
                assert_eq!(bits(&together, i), bits(&backwards, N - 1 - i), "sample {i}, order");
                assert_eq!(
                    bits(&together, i),
                    bits(&attack(&problem, &[i], &threat, early_stop), 0),
                    "sample {i}, alone"
                );
            }
        }
    }
}

/// The same for a convolutional network on images.
#[test]
fn images_do_not_influence_each_other() {
    let (n, side) = (5, 12);
    let x = unit(6, n, side * side, DType::F32).reshape([n, side, side, 1]);
    let kernel = super::normal(7, 9, 8, DType::F32).mul_scalar(0.3).reshape([3, 3, 1, 8]);
    let head = super::normal(8, 8, 3, DType::F32);
    let logits = |u: &Tensor| {
        let maps = u.conv2d(&kernel, Conv { pad: 1, ..Conv::default() }).relu();
        maps.global_avg_pool().matmul(&head)
    };
    let config = Pgd { steps: 3, step_size: 0.02, ..Pgd::default() };
    let attack = |x: &Tensor, labels: &[u32], keys: &[Key]| {
        attack_classifier(&logits, x, labels, LabelLoss::CrossEntropy, &Threat::linf(0.03), &config, keys)
    };
    let together = attack(&x, &[0, 1, 2, 0, 1], &keys(9, n));
    for i in 0..n {
        let alone = attack(&x.slice(0, i, 1), &[i as u32 % 3], &keys(9, n)[i..=i]);
        assert_eq!(bits(&together, i), bits(&alone, 0), "image {i}");
    }
}

#[test]
fn leaving_early_changes_no_success() {
    let (problem, all) = (problem(), (0..N).collect::<Vec<_>>());
    for threat in [Threat::linf(0.02), Threat::l2(0.08), Threat::new(Norm::L1, 0.25)] {
        let (early, full) = (attack(&problem, &all, &threat, true), attack(&problem, &all, &threat, false));
        assert_eq!(early.success, full.success);
        assert!(full.margin.iter().zip(&early.margin).all(|(full, early)| full <= early));
        assert!(early.forward.iter().zip(&full.forward).all(|(early, full)| early <= full));
    }
}

#[test]
fn threads_change_nothing() {
    let run = |threads: usize| {
        let device = Cpu { threads, ..Cpu::default() }.open();
        let x = Tensor::new(&device, [N, D], &problem().x.to_vec::<f32>());
        let w = Tensor::new(&device, [D, 2], &unit(5, D, 2, DType::F32).to_vec::<f32>());
        let config = Pgd { steps: 4, step_size: 0.02, ..Pgd::default() };
        let logits = |u: &Tensor| u.matmul(&w);
        let found = attack_classifier(
            &logits,
            &x,
            &[0; N],
            LabelLoss::Margin,
            &Threat::l2(0.2),
            &config,
            &keys(2, N),
        );
        (0..N).map(|i| bits(&found, i)).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(3));
}
