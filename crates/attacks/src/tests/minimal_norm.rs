//! Minimal-norm attacks on a model whose nearest misclassified point is known.

use super::{keys, normal};
use crate::{
    Ball, CarliniWagner, Classifier, DeepFool, HopSkipJump, LabelLoss, Limits, Norm, Outcome, Pgd, Threat,
    attack_classifier,
};
use tarrl_tensor::{DType, Shape, Tensor};

/// Logits (−l, l, −1, −2) of the mean level l over one half, as the tests of the adversarial library
/// (Rony et al. 2023) have them: class 1 above one half, class 0 below.
fn logits(u: &Tensor) -> Tensor {
    let n = u.shape()[0];
    let rows = u.reshape([n, u.len_of_row()]);
    let level = rows.mean(1).add_scalar(-0.5);
    let fixed = |value: f64| level.zeros_like().add_scalar(value);
    Tensor::concat(&[&level.neg(), &level, &fixed(-1.0), &fixed(-2.0)], 1)
}

trait RowLength {
    fn len_of_row(&self) -> usize;
}

impl RowLength for Tensor {
    fn len_of_row(&self) -> usize {
        self.shape()[1..].iter().product()
    }
}

/// Inputs N(0.75, 0.03²) `(n, …)`.
fn inputs(n: usize, row: &[usize], dtype: DType) -> Tensor {
    let d = row.iter().product();
    let shape = Shape::new(&[&[n], row].concat());
    normal(5, n, d, dtype).mul_scalar(0.03).add_scalar(0.75).reshape(shape)
}

/// The least size of a displacement that brings the mean to one half. No coordinate meets the box but
/// for l0, which empties the brightest first.
fn optimum(norm: Norm, x: &[f64]) -> f64 {
    let d = x.len() as f64;
    let level = x.iter().sum::<f64>() / d - 0.5;
    match norm {
        Norm::Linf => level,
        Norm::L2 => level * d.sqrt(),
        Norm::L1 => level * d,
        Norm::L0 => {
            let mut sorted = x.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let mut emptied = 0.0;
            1.0 + sorted
                .iter()
                .take_while(|v| {
                    emptied += **v;
                    emptied < level * d
                })
                .count() as f64
        }
    }
}

/// All batch sizes and shapes, with the optimum of each sample.
fn everywhere(norm: Norm, mut check: impl FnMut(&Tensor, &[f64])) {
    for n in [1, 3, 8] {
        for row in [&[8][..], &[4, 6], &[5, 7, 7]] {
            for dtype in [DType::F32, DType::F64] {
                let x = inputs(n, row, dtype);
                let d = x.len_of_row();
                let values = x.array().to_f64();
                let best: Vec<f64> = values.chunks(d).map(|x| optimum(norm, x)).collect();
                check(&x, &best);
            }
        }
    }
}

/// Attacks with a budget win at 1.25 times the optimum, in every norm, and never leave the ball.
#[test]
fn budgets_somewhat_above_the_optimum_suffice() {
    for norm in Norm::ALL {
        everywhere(norm, |x, best| {
            let n = best.len();
            let radii: Vec<f64> = best
                .iter()
                .map(|best| (1.25 * best).max(best + f64::from(u8::from(norm == Norm::L0))))
                .collect();
            let threat = Threat::new(norm, radii.iter().copied().fold(0.0, f64::max));
            let step_size = match norm {
                Norm::L0 => 1.0,
                _ => threat.epsilon / 5.0,
            };
            let config = Pgd { steps: 40, step_size, restarts: 1, ..Pgd::default() };
            let ball = threat.around_each(x, &radii);
            let labels = vec![1; n];
            let evaluate = crate::classify(&logits, &labels, LabelLoss::Margin);
            let found = config.run(&crate::Problem::new(ball, &evaluate, &keys(1, n), Limits::default()));
            assert!(found.success().iter().all(|s| *s), "{norm} on {:?}: {:?}", x.shape(), found.closest);
        });
    }
}

/// Slightly below the optimum no attack can win: the distances of this file are right.
#[test]
fn budgets_below_the_optimum_do_not_suffice() {
    for norm in Norm::ALL {
        everywhere(norm, |x, best| {
            let least = best.iter().copied().fold(f64::MAX, f64::min);
            let threat = Threat::new(norm, if norm == Norm::L0 { least - 1.0 } else { 0.999 * least });
            let config = Pgd { steps: 20, step_size: threat.epsilon / 5.0, ..Pgd::default() };
            let labels = vec![1; best.len()];
            let found = attack_classifier(
                &logits,
                x,
                &labels,
                LabelLoss::Margin,
                &threat,
                &config,
                &keys(2, best.len()),
            );
            assert!(found.success.iter().all(|s| !s), "{norm}");
        });
    }
}

fn near_optimal(name: &str, norm: Norm, factor: f64, attack: &dyn Fn(Classifier<'_>, &Ball) -> Outcome) {
    everywhere(norm, |x, best| {
        let labels = vec![1; best.len()];
        let ball = Threat::new(norm, 100.0).around(x);
        let found = attack(Classifier { logits: &logits, labels: &labels }, &ball);
        let again = ball.distances(&found.best);
        for (i, (&distance, &best)) in found.distances().iter().zip(best).enumerate() {
            assert!(distance <= factor * best, "{name} {:?}: {distance} but {best} is enough", x.shape());
            // An f32 mean of a row is some 1e-7 off.
            assert!(distance >= best * (1.0 - 1e-5), "{name}: {distance} is less than {best}");
            assert_eq!(distance, again[i], "the point returned is not the one that was measured");
            assert!(found.success()[i] && found.origin[i].is_some());
        }
    });
}

/// One face: the linearized step is exact but for the overshoot of two per cent.
#[test]
fn deepfool_is_exact_on_a_linear_model() {
    for norm in [Norm::L2, Norm::Linf] {
        near_optimal("DeepFool", norm, 1.025, &|c, ball| DeepFool::default().run(c, ball, Limits::default()));
    }
}

#[test]
fn carlini_wagner_comes_close_to_the_minimal_distance() {
    let config = CarliniWagner { steps: 200, searches: 6, initial_c: 0.1, ..CarliniWagner::default() };
    near_optimal("CW", Norm::L2, 1.05, &|c, ball| config.run(c, ball, Limits::default()));
}

#[test]
fn hop_skip_jump_comes_close_to_the_minimal_distance() {
    let config = HopSkipJump { steps: 15, initial_queries: 120, ..HopSkipJump::default() };
    for norm in [Norm::L2, Norm::Linf] {
        near_optimal("HopSkipJump", norm, 1.25, &|c, ball| {
            config.run(c, ball, &keys(3, ball.len()), Limits::default())
        });
    }
}

/// Passes are those of the closure, sample by sample.
#[test]
fn every_pass_is_counted() {
    let x = inputs(5, &[9], DType::F64);
    let (labels, ball) = (vec![1; 5], Threat::l2(100.0).around(&x));
    let passes = std::cell::Cell::new(0);
    let counted = |u: &Tensor| {
        passes.set(passes.get() + u.shape()[0]);
        logits(u)
    };
    let classifier = Classifier { logits: &counted, labels: &labels };
    let short = CarliniWagner { steps: 30, searches: 3, ..CarliniWagner::default() };
    let hop = HopSkipJump { steps: 2, initial_queries: 10, ..HopSkipJump::default() };
    let limits = Limits { budget: Some(150), ..Limits::default() };
    let attacks: [&dyn Fn() -> Outcome; 4] = [
        &|| DeepFool::default().run(classifier, &ball, Limits::default()),
        &|| short.run(classifier, &ball, Limits::default()),
        &|| short.run(classifier, &ball, limits),
        &|| hop.run(classifier, &ball, &keys(4, 5), limits),
    ];
    for attack in attacks {
        let found = attack();
        assert_eq!(found.forward.iter().sum::<u32>() as usize, passes.replace(0));
    }
    // From above one half to below: one step, at which the three other classes are considered.
    let found = DeepFool::default().run(classifier, &ball, Limits::default());
    assert_eq!((found.forward, found.backward), (vec![2; 5], vec![3; 5]));
    let found = short.run(classifier, &ball, limits);
    assert!(found.forward.iter().zip(&found.backward).all(|(f, b)| f + b <= 150));
    let found = hop.run(classifier, &ball, &keys(4, 5), Limits { budget: Some(37), ..limits });
    assert_eq!(found.forward, [37; 5]);
}

/// A mistake beyond the radius is found, but is no success.
#[test]
fn mistakes_out_of_reach_are_no_successes() {
    let x = inputs(4, &[9], DType::F64);
    let labels = vec![1; 4];
    let classifier = Classifier { logits: &logits, labels: &labels };
    let ball = Threat::l2(0.01).around(&x);
    for found in [
        DeepFool::default().run(classifier, &ball, Limits::default()),
        CarliniWagner { steps: 100, initial_c: 10.0, ..CarliniWagner::default() }.run(
            classifier,
            &ball,
            Limits::default(),
        ),
    ] {
        assert_eq!(found.success(), [false; 4]);
        assert!(found.origin.iter().all(Option::is_none));
        assert!(found.distances().iter().all(|d| d.is_finite() && *d > 0.01));
    }
}

/// A constant model: DeepFool has no gradient to follow and flags it.
#[test]
fn a_flat_model_is_flagged() {
    let x = inputs(2, &[9], DType::F32);
    let flat = |u: &Tensor| logits(&u.mul_scalar(0.0).add_scalar(0.75));
    let found = DeepFool::default().run(
        Classifier { logits: &flat, labels: &[1, 1] },
        &Threat::linf(1.0).around(&x),
        Limits::default(),
    );
    assert!(found.flags.iter().all(|f| f.zero_gradient) && found.distances() == [f64::INFINITY; 2]);
}

/// A sample's outcome depends on itself and its key alone, though samples share their queries.
#[test]
fn a_sample_ends_with_the_same_bits_in_any_batch() {
    let x = inputs(4, &[9], DType::F32);
    let ball = Threat::l2(100.0).around(&x);
    let hop = HopSkipJump { steps: 3, initial_queries: 20, ..HopSkipJump::default() };
    let cw = CarliniWagner { steps: 60, searches: 3, initial_c: 0.1, ..CarliniWagner::default() };
    type Attack<'a> = &'a dyn Fn(&Ball, &[tarrl_tensor::Key]) -> Outcome;
    let attacks: [Attack<'_>; 3] = [
        &|ball, keys| {
            hop.run(
                Classifier { logits: &logits, labels: &vec![1; ball.len()] },
                ball,
                keys,
                Limits::default(),
            )
        },
        &|ball, _| {
            cw.run(Classifier { logits: &logits, labels: &vec![1; ball.len()] }, ball, Limits::default())
        },
        &|ball, _| {
            DeepFool::default().run(
                Classifier { logits: &logits, labels: &vec![1; ball.len()] },
                ball,
                Limits::default(),
            )
        },
    ];
    let all_keys = keys(6, 4);
    for attack in attacks {
        let together = attack(&ball, &all_keys);
        for i in 0..4 {
            let alone = attack(&ball.keep(&[i]), &all_keys[i..=i]);
            assert_eq!(alone.value[0].to_bits(), together.value[i].to_bits());
            assert_eq!(alone.best.to_vec::<f32>(), together.best.slice(0, i, 1).to_vec::<f32>());
            assert_eq!((alone.forward[0], alone.backward[0]), (together.forward[i], together.backward[i]));
        }
    }
}
