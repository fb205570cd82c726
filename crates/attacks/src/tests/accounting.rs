//! Accounting of PGD: best points, counts of passes, flags.

use super::{keys, network, normal, unit};
use crate::{
    Evaluation, Flags, LabelLoss, Limits, Norm, Pgd, PgdRun, Problem, Query, Start, Threat,
    attack_classifier, pgd,
};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use tarrl_tensor::{DType, Op, Tensor, cpu};

#[test]
fn more_restarts_and_the_clean_point_never_lose() {
    let (n, d) = (6, 10);
    let (x, f) = (unit(1, n, d, DType::F32), network(2, d, 1, DType::F32));
    let objective = |u: &Tensor, rows: &[usize]| f(u).reshape([rows.len()]);
    let clean = objective(&x, &[0, 1, 2, 3, 4, 5]).array().to_f64();
    let threat = Threat::linf(0.1);
    let mut before = clean;
    for restarts in 1..6 {
        let config = Pgd { steps: 3, step_size: 0.05, restarts, ..Pgd::default() };
        let found = pgd(&x, &objective, &threat, &config, &keys(3, n));
        assert!(
            found.value.iter().zip(&before).all(|(now, before)| now >= before),
            "{restarts} restarts lost"
        );
        let again = objective(&found.best, &[0, 1, 2, 3, 4, 5]).array().to_f64();
        assert_eq!(again, found.value, "the point returned is not the one that was valued");
        before = found.value;
    }
}

/// An objective that falls wherever its gradient leads: the input is the best point, and is kept.
#[test]
fn the_best_point_is_kept_not_the_last() {
    let x = Tensor::new(&cpu(), [1, 1], &[0.5f32]);
    // The value is −u; the gradient is +1, for the first copy of u is a constant of the graph.
    let objective = |u: &Tensor, _: &[usize]| (&u.detach().mul_scalar(2.0) - u).neg().reshape([1]);
    let config = Pgd { steps: 4, step_size: 0.1, start: Start::Clean, ..Pgd::default() };
    let found = pgd(&x, &objective, &Threat::linf(0.4), &config, &keys(1, 1));
    assert_eq!((found.best.to_vec::<f32>(), found.value), (vec![0.5], vec![-0.5]));
}

#[test]
fn the_gradient_of_a_displacement_is_zero_at_the_clean_point() {
    let (n, d) = (3, 5);
    let (x, f) = (unit(4, n, d, DType::F32), network(5, d, 4, DType::F32));
    let z = f(&x);
    let moved = |u: &Tensor, _: &[usize]| (&f(u) - &z).square().sum(1).reshape([n]);
    let config = Pgd { steps: 3, step_size: 0.05, start: Start::Clean, ..Pgd::default() };
    let dead = pgd(&x, &moved, &Threat::linf(0.1), &config, &keys(6, n));
    assert_eq!(dead.value, [0.0; 3]);
    assert_eq!(dead.best.to_vec::<f32>(), x.to_vec::<f32>());
    assert_eq!(dead.flags, [Flags { zero_gradient: true, ..Flags::default() }; 3]);
    let alive = pgd(&x, &moved, &Threat::linf(0.1), &Pgd { start: Start::Random, ..config }, &keys(6, n));
    assert!(alive.value.iter().all(|v| *v > 0.0));
}

/// Two classes on one coordinate, split at 0.5: in steps of 0.1 the samples are lost at once, after one,
/// after two steps, and the last two not within three.
#[test]
fn passes_of_finished_samples_are_exact() {
    let x = Tensor::new(&cpu(), [5, 1], &[0.45f64, 0.55, 0.65, 0.85, 0.95]);
    let batches = RefCell::new(Vec::new());
    let logits = |u: &Tensor| {
        batches.borrow_mut().push(u.shape()[0]);
        let z = u.add_scalar(-0.5);
        Tensor::concat(&[&z, &z.neg()], 1)
    };
    let config = Pgd { steps: 3, step_size: 0.1, start: Start::Clean, early_stop: true, ..Pgd::default() };
    let found =
        attack_classifier(&logits, &x, &[0; 5], LabelLoss::Margin, &Threat::linf(0.5), &config, &keys(1, 5));
    assert_eq!(found.success, [true, true, true, false, false]);
    assert_eq!(found.forward, [1, 2, 3, 4, 4]);
    assert_eq!(found.backward, [0, 1, 2, 3, 3]);
    assert_eq!(*batches.borrow(), [5, 4, 3, 2], "finished samples were evaluated again");

    // From a random start the clean input is evaluated first; two restarts for who survives.
    batches.borrow_mut().clear();
    let config = Pgd { start: Start::Random, restarts: 2, ..config };
    let threat = Threat::linf(0.1);
    let found = attack_classifier(&logits, &x, &[0; 5], LabelLoss::Margin, &threat, &config, &keys(1, 5));
    assert_eq!((found.forward[0], found.backward[0]), (1, 0), "already wrong: one forward pass");
    assert_eq!((found.forward[4], found.backward[4]), (1 + 2 * 4, 2 * 3), "robust: every pass");
    assert!(found.success[1] && !found.success[2]);
    assert_eq!(found.forward.iter().sum::<u32>() as usize, batches.borrow().iter().sum::<usize>());

    // Without early stop every sample pays everything, and the last gradient is not taken.
    let config = Pgd { early_stop: false, ..config };
    let found = attack_classifier(&logits, &x, &[0; 5], LabelLoss::Margin, &threat, &config, &keys(1, 5));
    assert_eq!((found.forward, found.backward), (vec![9; 5], vec![6; 5]));
}

#[test]
fn failures_return_the_nearest_point_and_successes_the_farthest() {
    let x = Tensor::new(&cpu(), [2, 1], &[0.9f64, 0.55]);
    let logits = |u: &Tensor| Tensor::concat(&[&u.add_scalar(-0.5), &u.zeros_like()], 1);
    let config = Pgd { steps: 5, step_size: 0.05, ..Pgd::default() };
    let found = attack_classifier(
        &logits,
        &x,
        &[0, 0],
        LabelLoss::CrossEntropy,
        &Threat::linf(0.1),
        &config,
        &keys(2, 2),
    );
    assert_eq!(found.success, [false, true]);
    assert!(
        (found.margin[0] - 0.3).abs() < 1e-12 && (found.margin[1] + 0.05).abs() < 1e-12,
        "{:?}",
        found.margin
    );
    assert_eq!(found.adversarial.to_vec::<f64>(), found.worst.to_vec::<f64>());
    let loss = (0.05f64.exp()).ln_1p(); // of a margin of −0.05
    assert!((found.loss[1] - loss).abs() < 1e-12);
}

/// A tie goes to the first class, as argmax: lost by a later label, kept by an earlier one.
#[test]
fn ties_are_decided_by_the_first_index() {
    let x = Tensor::new(&cpu(), [2, 1], &[0.5f64, 0.5]);
    let logits = |u: &Tensor| Tensor::concat(&[u, u], 1);
    let config = Pgd { steps: 0, start: Start::Clean, ..Pgd::default() };
    let found =
        attack_classifier(&logits, &x, &[0, 1], LabelLoss::Margin, &Threat::linf(0.0), &config, &keys(3, 2));
    assert_eq!((found.success, found.margin), (vec![false, true], vec![0.0, 0.0]));
}

#[test]
fn what_is_not_a_number_is_flagged_and_moves_nothing() {
    let x = Tensor::new(&cpu(), [3, 2], &[0.5f32; 6]);
    // Row 0: a NaN value. Row 1: an infinite slope (√ at 0) with a finite value. Row 2: sound.
    let offset = Tensor::new(&cpu(), [3, 1], &[f32::NAN, 0.0, 1.0]);
    let base = x.slice(1, 0, 1);
    let objective = |u: &Tensor, _: &[usize]| {
        let first = u.slice(1, 0, 1);
        (&(&(&first - &base) * &(&offset * 1e30)).square().sqrt() + &first).reshape([3])
    };
    for threat in [Threat::linf(0.1), Threat::l2(0.1)] {
        let config = Pgd { steps: 2, step_size: 0.1, start: Start::Clean, ..Pgd::default() };
        let found = pgd(&x, &objective, &threat, &config, &keys(4, 3));
        assert!(found.best.to_vec::<f32>().iter().all(|v| v.is_finite()));
        assert_eq!(found.value[0], f64::NEG_INFINITY);
        assert!(found.flags[0].nan_value && found.flags[0].bad_gradient);
        assert!(!found.flags[1].nan_value && found.flags[1].bad_gradient);
        assert_eq!(found.best.slice(0, 0, 2).to_vec::<f32>(), [0.5; 4]);
    }
}

#[test]
fn a_frozen_model_has_no_weight_gradient() {
    let w = normal(5, 4, 1, DType::F32).requires_grad();
    let objective = |u: &Tensor, rows: &[usize]| {
        let product = u.matmul(&w);
        let probe = Tensor::record(Op::Custom("probe"), product.array().clone(), &[&product, &w], |p| {
            vec![p.need(0, || p.dy().clone()), p.need(1, || panic!("a weight gradient was computed"))]
        });
        probe.reshape([rows.len()])
    };
    pgd(&unit(6, 2, 4, DType::F32), &objective, &Threat::linf(0.1), &Pgd::default(), &keys(5, 2));
}

/// The same of attacks that take gradients of logits, and of the whole suite. Both sides of the product are tracked.
#[test]
fn no_attack_asks_for_a_weight_gradient() {
    let w = normal(5, 6, 3, DType::F32).requires_grad();
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let logits = |u: &Tensor| {
        let product = u.matmul(&w);
        Tensor::record(Op::Custom("probe"), product.array().clone(), &[&product, &w], |p| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            vec![p.need(0, || p.dy().clone()), p.need(1, || panic!("a weight gradient was computed"))]
        })
    };
    let x = unit(6, 4, 6, DType::F32);
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let target = crate::Classifier { logits: &logits, labels: &labels };
    let ball = Threat::l2(0.5).around(&x);
    let limits = crate::Limits::default();
    let cw = crate::CarliniWagner { searches: 1, steps: 5, ..crate::CarliniWagner::default() };
    let mut before = 0;
    let mut used = |name: &str| {
        let now = ASKED.load(Ordering::SeqCst);
        assert!(now > before, "{name} takes no gradient");
        before = now;
    };
    cw.run(target, &ball, limits);
    used("cw");
    crate::DeepFool::default().run(target, &ball, limits);
    used("deepfool");
    for version in [crate::Version::Standard, crate::Version::Plus] {
        let config = crate::AutoAttack { steps: 5, queries: 5, ..crate::AutoAttack::new(version) };
        crate::auto_attack(&logits, &x, &labels, &Threat::l2(0.01), &config, &keys(5, 4));
        used("autoattack");
    }
}

#[test]
#[should_panic(expected = "values of shape (2, 1), not (2)")]
fn an_objective_of_another_shape_is_refused() {
    let x = unit(7, 2, 4, DType::F32);
    pgd(&x, &|u, _| u.sum(1), &Threat::linf(0.1), &Pgd::default(), &keys(5, 2));
}

#[test]
#[should_panic(expected = "1 keys for 2 samples")]
fn a_missing_key_is_refused() {
    let x = unit(7, 2, 4, DType::F32);
    pgd(&x, &|u, _| u.sum(1).reshape([2]), &Threat::linf(0.1), &Pgd::default(), &keys(5, 1));
}

#[test]
fn an_empty_batch_evaluates_nothing() {
    let x = Tensor::new(&cpu(), [0, 3], &[] as &[f32]);
    let found =
        pgd(&x, &|_, _| unreachable!("nothing to evaluate"), &Threat::linf(0.1), &Pgd::default(), &[]);
    assert!(found.value.is_empty());
}

#[test]
fn configurations_are_read_from_files() {
    let read = |text: &str| toml::from_str::<Pgd>(text).map_err(|e| e.to_string());
    let wanted = Pgd { steps: 10, step_size: 1.0 / 255.0, start: Start::Clean, ..Pgd::default() };
    assert_eq!(read("steps = 10\nstep_size = '1/255'\nstart = 'clean'"), Ok(wanted));
    assert_eq!(toml::from_str::<Pgd>(&toml::to_string(&wanted).unwrap()).unwrap(), wanted);
    assert!(read("step = 10").unwrap_err().contains("step"));
}

/// Deferred values are those that are read at once, as under a budget that no sample
/// reaches: a NaN, a slope that is not finite, one that is zero, and falling values among them.
#[test]
fn deferred_values_are_those_read_at_once() {
    let (n, d) = (5, 4);
    let (x, f) = (unit(8, n, d, DType::F32), network(9, d, 1, DType::F32));
    let trouble = Tensor::new(&cpu(), [n], &[f32::NAN, 0.0, 1.0, 1.0, -1.0]);
    let evaluate = |u: &Tensor, _: Query<'_>| {
        let slope = u.slice(1, 0, 1).reshape([n]);
        // Row 1 has no slope; row 3 has an infinite one where its first coordinate is at its largest.
        let rise = &f(u).reshape([n]) * &trouble;
        let last = Tensor::new(&cpu(), [n], &[0.0f32, 0.0, 0.0, 1.0, 0.0]);
        Evaluation::of(&rise + &(&slope.mul_scalar(-1.0).add_scalar(1.0).relu().sqrt() * &last))
    };
    for (start, include_clean) in [(Start::Random, true), (Start::Random, false), (Start::HalfSigns, true)] {
        let config = Pgd { steps: 4, step_size: 0.2, restarts: 2, start, include_clean, ..Pgd::default() };
        let run = |budget| {
            let limits = Limits { budget, ..Limits::default() };
            config.run(&Problem::new(Threat::linf(0.5).around(&x), &evaluate, &keys(10, n), limits))
        };
        let (late, once) = (run(None), run(Some(u32::MAX)));
        assert_eq!(late.best.to_vec::<f32>(), once.best.to_vec::<f32>());
        assert_eq!(late.value, once.value);
        assert_eq!(late.flags, once.flags);
        assert_eq!((late.forward, late.backward), (once.forward, once.backward));
        assert!(late.flags[0].nan_value && late.flags[0].bad_gradient && late.flags[1].zero_gradient);
    }
}

/// An attack that is told where to begin, where it would have begun, is the same attack, and its points are there unread.
#[test]
fn a_start_that_was_drawn_before_is_that_of_the_attack() {
    let (n, d) = (4, 6);
    let (x, f) = (unit(11, n, d, DType::F32), network(12, d, 1, DType::F32));
    let evaluate = |u: &Tensor, _: Query<'_>| Evaluation::of(f(u).reshape([n]));
    for (norm, start) in
        [(Norm::Linf, Start::Random), (Norm::L2, Start::Random), (Norm::Linf, Start::HalfSigns)]
    {
        let config = Pgd { steps: 3, start, include_clean: false, ..Pgd::default() };
        let threat = Threat::new(norm, 0.2);
        let problem = Problem::new(threat.around(&x), &evaluate, &keys(13, n), Limits::default());
        let drawn = config.start(&threat.around_known(&x), &keys(13, n)).unwrap();
        let mut run = PgdRun::from(config, &problem, &drawn);
        while run.step() {}
        assert_eq!(run.into_best().to_vec::<f32>(), config.run(&problem).best.to_vec::<f32>());
    }
    assert!(
        Pgd { start: Start::Spectral, ..Pgd::default() }
            .start(&Threat::linf(0.1).around(&x), &keys(1, n))
            .is_none()
    );
}
