//! Results that depend neither on the batch nor on interruptions, and passes that are those of the model.

use super::{EVERYWHERE, keys};
use crate::methods::trust_region::TrustRegion;
use crate::{
    Alma, ApgdSearch, Ddn, DualAveraging, Fmn, Nearest, NearestMethod, NearestOutcome, NearestRun,
    NearestTarget, Pdgd, Pdpgd, SigmaZero, SuperDeepFool, with_margin, with_scores,
};
use std::cell::Cell;
use tarrl_attacks::{Flags, Limits, Norm, StateError, Threat};
use tarrl_tensor::{DType, Random, Tensor, cpu};

const N: usize = 5;
const D: usize = 8;

fn normal(seed: u64, rows: usize, columns: usize) -> Tensor {
    Tensor::random(&cpu(), Random::Normal, &keys(seed, rows), &[columns], DType::F32)
}

fn inputs() -> Tensor {
    Tensor::random(&cpu(), Random::Uniform, &keys(1, N), &[D], DType::F32)
}

/// A network `(m, d)` to `(m, 4)`.
fn network() -> impl Fn(&Tensor) -> Tensor {
    let (first, second) = (normal(2, D, 12), normal(5, 12, 4));
    move |x: &Tensor| x.add_scalar(-0.5).matmul(&first).relu().matmul(&second)
}

/// Short plans of every method in every norm that it knows.
fn plans() -> Vec<(Norm, Nearest)> {
    let mut plans = Vec::new();
    for norm in Norm::ALL {
        let methods = [
            NearestMethod::Ddn(Ddn { steps: 12, ..Ddn::default() }),
            NearestMethod::Fmn(Fmn::new(norm, 12)),
            NearestMethod::Alma(Alma::new(norm, 12)),
            NearestMethod::Pdgd(Pdgd { steps: 12, ..Pdgd::default() }),
            NearestMethod::Pdpgd(Pdpgd { steps: 12, ..Pdpgd::default() }),
            NearestMethod::Sdf(SuperDeepFool { steps: 12, ..SuperDeepFool::default() }),
            NearestMethod::SigmaZero(SigmaZero { steps: 12, ..SigmaZero::default() }),
            NearestMethod::ApgdSearch(ApgdSearch {
                searches: 3,
                steps: 4,
                targets: 2,
                ..ApgdSearch::new(norm)
            }),
        ];
        let known = methods.into_iter().filter(|method| method.knows(norm));
        plans.extend(known.map(|method| (norm, Nearest::single(method, norm))));
        // From one method to the next, and the trust region, which needs a mistake to begin with.
        let mut all = Nearest::single(NearestMethod::Sdf(SuperDeepFool::default()), norm);
        if norm == Norm::L0 {
            all.methods.push(NearestMethod::DualAveraging(DualAveraging {
                steps: 20,
                patience: 3,
                ..DualAveraging::default()
            }));
            all.methods.push(NearestMethod::Restore { evaluations: 40, exchanges: 3 });
        } else {
            for target in [0, 2] {
                let steps = TrustRegion { steps: 12, target, ..TrustRegion::default() };
                all.methods.push(NearestMethod::TrustRegion(steps));
            }
        }
        all.methods.push(NearestMethod::Polish { evaluations: 12 });
        plans.push((norm, all));
    }
    plans
}

fn with_target<R>(rows: &[usize], norm: Norm, limits: Limits, f: impl FnOnce(&NearestTarget<'_>) -> R) -> R {
    let (x, z) = (inputs(), network());
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    let own: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
    let keys: Vec<_> = rows.iter().map(|&row| keys(3, N)[row]).collect();
    let ball = Threat::new(norm, EVERYWHERE).around(&x).keep(rows);
    with_scores(&|u, _| z(u), &own, &ball, &keys, limits, f)
}

/// Point, distance and margin, passes, first mistake, method and flags; floating-point numbers as bits.
type Facts = (Vec<u32>, [u64; 2], [u32; 2], Option<u32>, Option<String>, Flags);

/// Everything that was found of a sample.
fn facts(found: &NearestOutcome, row: usize) -> Facts {
    let d = found.point.len() / found.distance.len();
    let point = found.point.to_vec::<f32>()[row * d..][..d].iter().map(|v| v.to_bits()).collect();
    (
        point,
        [found.distance[row].to_bits(), found.margin[row].to_bits()],
        [found.forward[row], found.backward[row]],
        found.first_mistake[row],
        found.by[row].clone(),
        found.flags[row],
    )
}

trait Length {
    fn len(&self) -> usize;
}

impl Length for Tensor {
    fn len(&self) -> usize {
        self.shape().len()
    }
}

#[test]
fn a_sample_alone_and_in_any_batch_has_the_same_bits() {
    for (norm, plan) in plans() {
        let all: Vec<usize> = (0..N).collect();
        let run = |rows: &[usize]| {
            with_target(rows, norm, Limits::default(), |target| NearestRun::new(plan.clone(), target).run())
        };
        let whole = run(&all);
        let found = whole.distance.iter().filter(|d| d.is_finite()).count();
        assert!(found + 1 >= N, "{plan:?} in {norm} finds {:?}", whole.distance);
        let turned = run(&[4, 2, 0]);
        for (at, row) in [(0, 4), (1, 2), (2, 0)] {
            assert_eq!(facts(&whole, row), facts(&turned, at), "{plan:?} in {norm}");
        }
        for row in 0..N {
            assert_eq!(facts(&whole, row), facts(&run(&[row]), 0), "{plan:?} in {norm}");
        }
    }
}

#[test]
fn interrupted_runs_end_with_the_same_bits() {
    let all: Vec<usize> = (0..N).collect();
    for budget in [None, Some(60)] {
        for (norm, plan) in plans() {
            let limits = Limits { budget, ..Limits::default() };
            with_target(&all, norm, limits, |target| {
                let whole = NearestRun::new(plan.clone(), target).run();
                let mut run = NearestRun::new(plan.clone(), target);
                while run.step() {
                    let text = serde_json::to_string(&run.state()).unwrap();
                    let state = serde_json::from_str(&text).unwrap();
                    run = NearestRun::new(plan.clone(), target).resume(&state).unwrap();
                }
                let pieces = run.finish();
                for row in 0..N {
                    assert_eq!(facts(&whole, row), facts(&pieces, row), "{plan:?} in {norm}");
                    let passes = whole.forward[row] + whole.backward[row];
                    assert!(budget.is_none_or(|budget| passes <= budget), "{plan:?} in {norm}: {passes}");
                }
            });
        }
    }
}

#[test]
fn states_of_another_plan_or_problem_are_refused() {
    let all: Vec<usize> = (0..N).collect();
    let plan = Nearest::ensemble(Norm::L2);
    let state = with_target(&all, Norm::L2, Limits::default(), |target| {
        let mut run = NearestRun::new(plan.clone(), target);
        (0..5).for_each(|_| assert!(run.step()));
        run.state()
    });
    with_target(&all, Norm::L2, Limits::default(), |target| {
        let other = Nearest { methods: plan.methods[1..].to_vec() };
        let refused = NearestRun::new(other, target).resume(&state).err();
        assert!(matches!(refused, Some(StateError::OtherConfig { .. })), "{refused:?}");
        assert!(NearestRun::new(plan.clone(), target).resume(&state).is_ok());
    });
    with_target(&all[1..], Norm::L2, Limits::default(), |target| {
        let refused = NearestRun::new(plan.clone(), target).resume(&state).err();
        assert_eq!(refused, Some(StateError::OtherProblem));
    });
}

/// The model sees as many points as forward passes are counted.
#[test]
fn passes_are_those_of_the_model() {
    let (x, z) = (inputs(), network());
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    for (norm, plan) in plans() {
        let seen = Cell::new(0);
        let scores = |u: &Tensor, _: &[usize]| {
            seen.set(seen.get() + u.shape()[0]);
            z(u)
        };
        let ball = Threat::new(norm, EVERYWHERE).around(&x);
        let found = with_scores(&scores, &labels, &ball, &keys(3, N), Limits::default(), |target| {
            NearestRun::new(plan.clone(), target).run()
        });
        assert_eq!(found.forward.iter().sum::<u32>() as usize, seen.get(), "{plan:?} in {norm}");
        for row in 0..N {
            let first = found.first_mistake[row].unwrap_or(0);
            assert!(first <= found.forward[row] + found.backward[row]);
        }
    }
}

#[test]
fn what_is_wrong_already_costs_one_pass_and_what_never_is_is_infinitely_far() {
    for norm in Norm::ALL {
        let plan = Nearest::ensemble(norm);
        let (x, z) = (inputs(), network());
        let labels: Vec<u32> = z(&x).argmax(1).to_vec::<u32>().iter().map(|y| (y + 1) % 4).collect();
        let ball = Threat::new(norm, 0.0).around(&x);
        let wrong = with_scores(&|u, _| z(u), &labels, &ball, &keys(3, N), Limits::default(), |target| {
            NearestRun::new(plan.clone(), target).run()
        });
        assert_eq!(wrong.distance, [0.0; N]);
        assert_eq!((&wrong.forward[..], &wrong.backward[..]), (&[1; N][..], &[0; N][..]));
        assert_eq!(wrong.first_mistake, [Some(1); N]);
        assert!(wrong.success.iter().all(|success| *success) && wrong.by[0].as_deref() == Some("clean"));

        let flat = |u: &Tensor, _: &[usize]| {
            let one = u.slice(1, 0, 1).mul_scalar(0.0).add_scalar(1.0);
            Tensor::concat(&[&one, &one.mul_scalar(0.5)], 1)
        };
        let ball = Threat::new(norm, EVERYWHERE).around(&x);
        let limits = Limits { budget: Some(300), ..Limits::default() };
        let never = with_scores(&flat, &[0; N], &ball, &keys(3, N), limits, |target| {
            NearestRun::new(plan.clone(), target).run()
        });
        assert_eq!(never.distance, [f64::INFINITY; N]);
        assert_eq!(never.point.to_vec::<f32>(), x.to_vec::<f32>());
        assert!(never.flags.iter().all(|flags| flags.zero_gradient), "{:?}", never.flags);
        assert!(never.by[0].is_none() && !never.success[0] && never.first_mistake[0].is_none());
    }
}

/// A sample leaves at its first mistake in the ball, and not at one beyond it.
#[test]
fn samples_leave_at_success_if_that_is_asked_for() {
    let (x, z) = (inputs(), network());
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    for norm in Norm::ALL {
        let run = |radius: f64, early_stop: bool| {
            let ball = Threat::new(norm, radius).around(&x);
            let limits = Limits { early_stop, ..Limits::default() };
            with_scores(&|u, _| z(u), &labels, &ball, &keys(3, N), limits, |target| {
                NearestRun::new(Nearest::ensemble(norm), target).run()
            })
        };
        let whole = run(EVERYWHERE, false);
        let (left, far) = (run(EVERYWHERE, true), run(0.0, true));
        for row in 0..N {
            let spent = |found: &NearestOutcome| found.forward[row] + found.backward[row];
            assert_eq!(left.success[row], whole.success[row]);
            assert_eq!(left.first_mistake[row], whole.first_mistake[row]);
            assert!(whole.first_mistake[row].is_none_or(|first| spent(&left) == first), "{norm}");
            assert!(!far.success[row] && far.distance[row] == whole.distance[row], "{norm}");
        }
    }
}

/// A squared displacement has no slope at the sample; the nearest point where it is 0.04 lies along the largest singular
/// direction of a linear map. By hand: f(u) = (2 u₁, u₂), distance 0.1 in l2 and in l1, and 0.2 / √5 in l-infinity.
#[test]
fn a_displacement_of_representations_is_found_without_labels() {
    let x = Tensor::new(&cpu(), [1, 2], &[0.5f32, 0.5]);
    let map = Tensor::new(&cpu(), [2, 2], &[2.0f32, 0.0, 0.0, 1.0]);
    let margin = |u: &Tensor, _: &[usize]| {
        (&u.matmul(&map) - &x.matmul(&map).broadcast_to(*u.shape())).square().sum(1).neg().add_scalar(0.04)
    };
    let exact = [(Norm::L2, 0.1), (Norm::L1, 0.1), (Norm::Linf, 0.2 / 5f64.sqrt()), (Norm::L0, 1.0)];
    for (norm, exact) in exact {
        let ball = Threat::new(norm, EVERYWHERE).around(&x);
        let found = with_margin(&margin, &ball, &keys(3, 1), Limits::default(), |target| {
            NearestRun::new(Nearest::ensemble(norm), target).run()
        });
        let distance = found.distance[0];
        assert!(
            (exact * (1.0 - 1e-5)..=exact * (1.0 + 1e-3)).contains(&distance),
            "{norm}: {distance}, exact is {exact}"
        );
    }
}
