//! Attacks on models that are random.

use super::{keys, normal, unit};
use crate::{Eot, LabelLoss, Limits, Outcome, Pgd, Problem, Start, Threat};
use std::cell::RefCell;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

const D: usize = 6;

/// Two classes, z = (a·u + noise, 0), a noise for each key: positive is class 0.
fn noisy<'a>(a: &'a Tensor, spread: f64) -> impl Fn(&Tensor, &[Key]) -> Tensor + 'a {
    move |u, keys| {
        let noise = Tensor::random(&cpu(), Random::Normal, keys, &[1], DType::F64).mul_scalar(spread);
        let z = &u.matmul(a) + &noise;
        Tensor::concat(&[&z, &z.zeros_like()], 1)
    }
}

fn attack(eot: Eot, n: usize, rows: &[usize], config: &Pgd) -> Outcome {
    let (x, a) = (unit(1, n, D, DType::F64), normal(2, D, 1, DType::F64));
    let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    let x = x.gather(0, &tarrl_tensor::Array::new(&cpu(), [rows.len()], &index));
    let all: Vec<Key> = keys(3, n);
    let keys: Vec<Key> = rows.iter().map(|&row| all[row]).collect();
    let (model, labels) = (noisy(&a, 0.3), vec![0; rows.len()]);
    let evaluate = eot.classify(&model, &labels, LabelLoss::CrossEntropy, &keys);
    config.run(&Problem::new(Threat::linf(0.05).around(&x), &evaluate, &keys, eot.limits(Limits::default())))
}

/// The gradient is the mean of those of the draws: a step follows the mean, as computed apart.
#[test]
fn a_step_follows_the_mean_of_the_gradients() {
    let (n, epsilon) = (3, 0.1);
    let (x, a) = (unit(1, n, D, DType::F64), normal(2, D, 1, DType::F64));
    // A random sign and scale of every coordinate, so that gradients of draws disagree.
    let model = |u: &Tensor, keys: &[Key]| {
        let scale = Tensor::random(&cpu(), Random::Normal, keys, &[D], DType::F64).add_scalar(0.3);
        let z = (u * &scale).matmul(&a);
        Tensor::concat(&[&z, &z.zeros_like()], 1)
    };
    let (eot, keys, labels) = (Eot { draws: 5, share: 0.5 }, keys(4, n), [0; 3]);
    let evaluate = eot.classify(&model, &labels, LabelLoss::Margin, &keys);
    let config = Pgd { include_clean: false, ..Pgd::single_step(epsilon) };
    let problem =
        Problem::new(Threat::linf(epsilon).around(&x), &evaluate, &keys, eot.limits(Limits::default()));
    let mut run = crate::PgdRun::new(config, &problem);
    run.step();
    let found = run.finish();
    // The margin loss is −a·(scale u): its gradient is −scale a. Draws 0 to 4 were the first.
    let mut mean = Tensor::full(&cpu(), [n, D], DType::F64, 0.0);
    for draw in 0..5u64 {
        let keys: Vec<Key> = keys.iter().map(|key| key.fold("draw").fold(draw)).collect();
        mean =
            &mean + &(&Tensor::random(&cpu(), Random::Normal, &keys, &[D], DType::F64).add_scalar(0.3) * 0.2);
    }
    let value = (&mean * &x).matmul(&a).neg().to_vec::<f64>();
    for (found, wanted) in found.value.iter().zip(value) {
        assert!((found - wanted).abs() < 1e-12, "{found} but {wanted}");
    }
    assert_eq!((found.forward, found.backward), (vec![5; n], vec![5; n]));
}

#[test]
fn success_needs_the_share_of_lost_draws() {
    // A model that loses by fixed draws: those whose first word is below 0.3 of the range.
    let model = |u: &Tensor, keys: &[Key]| {
        let lost: Vec<f64> =
            keys.iter().map(|key| if key.stream().uniform(0.0, 1.0) < 0.3 { -1.0 } else { 1.0 }).collect();
        let z = Tensor::new(&cpu(), [keys.len(), 1], &lost);
        Tensor::concat(&[&(&z + &u.mul_scalar(0.0)), &z.zeros_like()], 1)
    };
    let n = 40;
    let (x, keys, labels) = (unit(1, n, 1, DType::F64), keys(5, n), vec![0; n]);
    let judged = |share: f64| {
        let eot = Eot { draws: 100, share };
        eot.confirm(&model, &x, &labels, &keys).iter().map(|c| c.verdict.success).filter(|s| *s).count()
    };
    // 100 draws at 0.3: standard deviation 0.046; the shares are more than four of them off.
    assert_eq!((judged(0.01), judged(0.1), judged(0.5), judged(1.0)), (n, n, 0, 0));
    for found in (Eot { draws: 100, share: 0.5 }).confirm(&model, &x, &labels, &keys) {
        assert!(
            found.verdict.margin > 0.0 && (found.lost - 0.3).abs() < 0.2 && found.flip_rate == found.lost
        );
    }
}

#[test]
fn draws_are_fresh_in_every_step_and_the_same_in_any_batch() {
    let a = normal(2, D, 1, DType::F64);
    let seen = RefCell::new(Vec::new());
    let model = |u: &Tensor, keys: &[Key]| {
        seen.borrow_mut().extend_from_slice(keys);
        noisy(&a, 0.3)(u, keys)
    };
    let (x, keys, labels) = (unit(1, 2, D, DType::F64), keys(3, 2), [0, 0]);
    let eot = Eot { draws: 4, share: 0.5 };
    let evaluate = eot.classify(&model, &labels, LabelLoss::CrossEntropy, &keys);
    let config = Pgd { steps: 3, step_size: 0.02, ..Pgd::default() };
    let problem =
        Problem::new(Threat::linf(0.05).around(&x), &evaluate, &keys, eot.limits(Limits::default()));
    let found = config.run(&problem);
    let drawn = seen.borrow().len();
    assert_eq!(drawn as u32, found.forward.iter().sum::<u32>());
    assert_eq!(found.forward, [4 * 5; 2]);
    let different: std::collections::HashSet<u64> = seen.borrow().iter().map(|key| key.seed()).collect();
    assert_eq!(different.len(), drawn);

    let n = 5;
    let config = Pgd { steps: 4, step_size: 0.02, restarts: 2, start: Start::Random, ..Pgd::default() };
    let together = attack(eot, n, &[0, 1, 2, 3, 4], &config);
    for i in 0..n {
        let alone = attack(eot, n, &[i], &config);
        assert_eq!(alone.value[0].to_bits(), together.value[i].to_bits());
        assert_eq!(alone.best.to_vec::<f64>(), together.best.slice(0, i, 1).to_vec::<f64>());
    }
}

#[test]
#[should_panic(expected = "the share is 0")]
fn no_share_is_refused() {
    let model = |u: &Tensor, _: &[Key]| u.clone();
    Eot { draws: 3, share: 0.0 }.confirm(&model, &unit(1, 1, 2, DType::F64), &[0], &keys(1, 1));
}
