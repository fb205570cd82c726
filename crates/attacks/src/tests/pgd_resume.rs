//! Resume of PGD: interrupted runs end with the same bits.

use super::{keys, network, unit};
use crate::driver::StoredOutcome;
use crate::{LabelLoss, Limits, Norm, Outcome, Pgd, PgdRun, Problem, StateError, Threat, classify};
use tarrl_tensor::{DType, Tensor};

const N: usize = 7;

fn with_problem<T>(norm: Norm, limits: Limits, f: impl FnOnce(&Problem<'_>) -> T) -> T {
    let (x, z) = (unit(1, N, 10, DType::F32), network(2, 10, 4, DType::F32));
    let logits = |u: &Tensor| z(u);
    let labels: Vec<u32> = (0..N as u32).map(|i| i % 4).collect();
    let evaluate = classify(&logits, &labels, LabelLoss::CrossEntropy);
    let epsilon = if norm == Norm::L0 { 1.0 } else { 0.02 };
    f(&Problem::new(Threat::new(norm, epsilon).around(&x), &evaluate, &keys(3, N), limits))
}

fn config() -> Pgd {
    Pgd { steps: 4, step_size: 0.01, restarts: 2, momentum: 0.9, ..Pgd::default() }
}

/// Interrupted after every single step, through a text format.
fn in_pieces(problem: &Problem<'_>) -> Outcome {
    let mut state = PgdRun::new(config(), problem).state();
    loop {
        let mut run = PgdRun::new(config(), problem).resume(&state).unwrap();
        if !run.step() {
            return run.finish();
        }
        state = serde_json::from_str(&serde_json::to_string(&run.state()).unwrap()).unwrap();
    }
}

#[test]
fn an_interrupted_run_ends_with_the_same_bits() {
    for norm in Norm::ALL {
        for early_stop in [false, true] {
            let limits = Limits { early_stop, budget: Some(17), ..Limits::default() };
            with_problem(norm, limits, |problem| {
                let whole = config().run(problem);
                assert_eq!(StoredOutcome::of(&whole), StoredOutcome::of(&in_pieces(problem)), "{norm}");
                let successes = whole.success().iter().filter(|s| **s).count();
                assert!(
                    successes > 0 && (successes < N || norm == Norm::L0),
                    "{norm}: {successes} successes test too little"
                );
            });
        }
    }
}

#[test]
fn states_of_another_problem_or_configuration_are_refused() {
    let state = with_problem(Norm::L2, Limits::default(), |p| PgdRun::new(config(), p).state());
    with_problem(Norm::L2, Limits::default(), |problem| {
        let other = Pgd { steps: 5, ..config() };
        let refused = PgdRun::new(other, problem).resume(&state).err();
        assert!(matches!(refused, Some(StateError::OtherConfig { .. })), "{refused:?}");
        assert!(PgdRun::new(config(), problem).resume(&state).is_ok());
    });
    for (norm, budget) in [(Norm::L1, None), (Norm::L2, Some(3))] {
        with_problem(norm, Limits { budget, ..Limits::default() }, |problem| {
            assert_eq!(PgdRun::new(config(), problem).resume(&state).err(), Some(StateError::OtherProblem));
        });
    }
}

/// A budget is never exceeded, used as far as whole steps go, and changes nothing before it ends.
#[test]
fn budgets_stop_each_sample_exactly() {
    let free = with_problem(Norm::Linf, Limits::default(), |problem| config().run(problem));
    for budget in 0..24 {
        let limits = Limits { budget: Some(budget), ..Limits::default() };
        let found = with_problem(Norm::Linf, limits, |problem| config().run(problem));
        for i in 0..N {
            let spent = found.forward[i] + found.backward[i];
            let wanted = free.forward[i] + free.backward[i];
            assert!(spent <= budget);
            // The clean evaluation, then steps of two passes; the last evaluation of a restart is one.
            assert!(spent == wanted || budget - spent < 2, "{spent} of {budget} spent, {wanted} wanted");
            assert_eq!(found.flags[i].out_of_budget, budget > 0 && spent < wanted, "budget {budget}");
            assert!(found.value[i] <= free.value[i]);
        }
    }
}
