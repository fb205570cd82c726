//! A sample's result depends on the sample and its key alone, to the last bit.

use super::{keys, network, unit};
use crate::{
    Apgd, AttackSpec, Classifier, ClassifierOutcome, Fab, HopSkipJump, LabelLoss, Limits, Norm, Pgd,
    RunConfig, Square, SuiteRun, Threat, attack_classifier,
};
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

/// A network whose second convolution is computed by Winograd's algorithm: `(n, 8, 8, 1)` to four logits.
fn convolutional() -> impl Fn(&Tensor) -> Tensor {
    let kernel = |seed, inputs: usize, scale| {
        super::normal(seed, 9 * inputs, 32, DType::F32).mul_scalar(scale).reshape([3, 3, inputs, 32])
    };
    let (first, second, head) =
        (kernel(12, 1, 0.5), kernel(13, 32, 0.1), super::normal(14, 32, 4, DType::F32));
    let conv = Conv { pad: 1, ..Conv::default() };
    move |u: &Tensor| {
        let maps = u.add_scalar(-0.5).conv2d(&first, conv).relu().conv2d(&second, conv).relu();
        maps.global_avg_pool().matmul(&head)
    }
}

/// Samples that are broken leave, so that a batch shrinks from step to step.
#[test]
fn one_at_a_time_or_all_at_once_attacks_end_with_the_same_bits() {
    let n = 12;
    let (x, f) = (unit(15, n, 64, DType::F32).reshape([n, 8, 8, 1]), convolutional());
    let labels: Vec<u32> = f(&x).argmax(1).to_vec();
    let ball = Threat::l2(0.3).around(&x);
    let parts = [
        AttackSpec::Square { config: Square { queries: 60, ..Square::default() } },
        AttackSpec::Fab { config: Fab { steps: 15, ..Fab::default() } },
        AttackSpec::Apgd { loss: LabelLoss::Dlr, config: Apgd { steps: 15, ..Apgd::default() } },
    ];
    for part in parts {
        let found = [1, 5, 256].map(|batch| {
            let config = RunConfig { batch, ..RunConfig::default() };
            let mut run = SuiteRun::new(ball.clone(), &labels, &keys(16, n), vec![part.clone()], config);
            while run.round(&|u, _| f(u)) {}
            run.finish()
        });
        for other in &found[1..] {
            assert_eq!(
                found[0].adversarial.to_vec::<f32>(),
                other.adversarial.to_vec::<f32>(),
                "{}",
                part.name()
            );
            assert_eq!(found[0].margin, other.margin, "{}", part.name());
            assert_eq!(
                (&found[0].forward, &found[0].backward),
                (&other.forward, &other.backward),
                "{}",
                part.name()
            );
        }
        let broken = found[0].success.iter().filter(|s| **s).count();
        assert!(broken > 0, "{}: nobody leaves", part.name());
    }
    let hop = HopSkipJump { steps: 3, initial_queries: 20, ..HopSkipJump::default() };
    let hop = |rows: std::ops::Range<usize>| {
        let ball = Threat::l2(0.3).around(&x.slice(0, rows.start, rows.len()));
        let classifier = Classifier { logits: &f, labels: &labels[rows.clone()] };
        let found = hop.run(classifier, &ball, &keys(17, n)[rows], Limits::default());
        (found.distances(), found.forward, found.best.to_vec::<f32>())
    };
    let (distances, forward, points) = hop(0..n);
    assert!(distances.iter().filter(|d| d.is_finite()).count() > n / 2, "{distances:?}");
    for i in 0..n {
        let alone = hop(i..i + 1);
        let together = (vec![distances[i]], vec![forward[i]], points[64 * i..][..64].to_vec());
        assert_eq!(alone, together, "sample {i}");
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
