//! Stored runs that were changed are refused, and with a checksum that fits they neither panic nor run on.

use super::{keys, network, unit};
use crate::{
    AttackRun, AutoAttack, CarliniWagner, CarliniWagnerRun, Classifier, DeepFool, DeepFoolRun, HopSkipJump,
    HopSkipJumpRun, LabelLoss, Limits, MinimalAdversarial, Norm, Pgd, PgdRun, Problem, Query, RunState,
    StepRule, SuiteRun, SuiteState, Threat, Version, classify,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tarrl_tensor::{DType, Key, Stream, Tensor};

const N: usize = 3;
const D: usize = 6;
/// Changes tried of the state after every step.
const CHANGES: u64 = 12;

/// Every place of a value, outermost first.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, inner)| places(inner, &format!("{here}/{name}"), found));
        }
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(i, inner)| places(inner, &format!("{here}/{i}"), found));
        }
        _ => {}
    }
}

/// One random change of one random place.
fn change(state: &mut Value, draws: &mut Stream) {
    let mut all = Vec::new();
    places(state, "", &mut all);
    let place = state.pointer_mut(&all[draws.below(all.len())]).unwrap();
    *place = match place.take() {
        Value::Bool(is) => Value::Bool(!is),
        Value::Number(number) => match (number.as_u64(), draws.below(5)) {
            (Some(number), 0) => number.wrapping_add(1).into(),
            (Some(number), 1) => number.wrapping_sub(1).into(),
            (Some(number), 2) => (number ^ 1 << draws.below(63)).into(),
            (_, 3) => u64::from(u32::MAX).into(),
            (_, 4) => u64::MAX.into(),
            _ => 0.into(),
        },
        Value::String(text) if !text.is_empty() && text.is_ascii() => {
            let at = draws.below(text.len());
            let digit = char::from_digit(draws.below(16) as u32, 16).unwrap();
            match draws.below(3) {
                0 => format!("{}{digit}{}", &text[..at], &text[at + 1..]).into(),
                1 => text[..at / 8 * 8].into(),
                _ => "7ff8000000000000".repeat(text.len() / 16).into(),
            }
        }
        Value::Array(mut all) if !all.is_empty() => {
            let at = draws.below(all.len());
            match draws.below(3) {
                0 => drop(all.remove(at)),
                1 => all.push(all[at].clone()),
                _ => all.swap(0, at),
            }
            all.into()
        }
        Value::Null => 0.into(),
        _ => Value::Null,
    };
}

/// Changed states of one that was written: each is refused, or `run` gets it with a checksum that fits.
fn changed<T: Serialize + DeserializeOwned>(
    state: &T,
    seed: u64,
    refused: &dyn Fn(&T) -> bool,
    run: &dyn Fn(&T),
) {
    let written = serde_json::to_value(state).unwrap();
    for change_number in 0..CHANGES {
        let mut draws = Key::new(seed).fold(change_number).stream();
        let mut value = written.clone();
        change(&mut value, &mut draws);
        let Ok(other) = serde_json::from_value::<T>(value.clone()) else { continue };
        // What is read as what was written is the same state, such as a field of no use that is gone.
        let same = serde_json::to_value(&other).unwrap() == written;
        assert_eq!(refused(&other), !same, "{value}");
        run(&other);
    }
}

/// Changes the states of a run of at most `most` steps after every step.
fn check_run<'a, R, F>(new: F, most: usize)
where
    R: StepRule<'a>,
    R::Config: Clone + DeserializeOwned,
    R::State: Clone + DeserializeOwned,
    F: Fn() -> AttackRun<'a, R>,
{
    let mut run = new();
    let mut steps = 0;
    loop {
        let refused = |state: &RunState<R::Config, R::State>| new().resume(state).is_err();
        let go_on = |state: &RunState<R::Config, R::State>| {
            if let Ok(mut run) = new().resume(&state.resealed()) {
                let taken = (0..=most).take_while(|_| run.step()).count();
                assert!(taken <= most, "a run of {most} steps goes on");
                run.finish();
            }
        };
        changed(&run.state(), steps as u64, &refused, &go_on);
        if !run.step() {
            break;
        }
        steps += 1;
    }
    assert!(steps > 1 && steps <= most, "{steps} steps");
}

fn with_target(norm: Norm, f: impl FnOnce(&MinimalAdversarial<'_>)) {
    let (x, z) = (unit(1, N, D, DType::F32), network(2, D, 4, DType::F32));
    let logits = |u: &Tensor| z(u);
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    let target = Classifier { logits: &logits, labels: &labels };
    let limits = Limits { budget: Some(300), ..Limits::default() };
    target.nearest(&Threat::new(norm, 0.05).around(&x), &keys(3, N), limits, f);
}

#[test]
fn changed_states_of_pgd_are_refused_or_end() {
    let (x, z) = (unit(1, N, D, DType::F32), network(2, D, 4, DType::F32));
    let logits = |u: &Tensor| z(u);
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    let evaluate = classify(&logits, &labels, LabelLoss::Margin);
    let config = Pgd { steps: 4, step_size: 0.02, restarts: 2, momentum: 0.5, ..Pgd::default() };
    let limits = Limits { early_stop: true, budget: Some(15), ..Limits::default() };
    let problem = Problem::new(Threat::l2(0.1).around(&x), &evaluate, &keys(3, N), limits);
    check_run(|| PgdRun::new(config, &problem), 12);
}

#[test]
fn changed_states_of_carlini_wagner_are_refused_or_end() {
    let config = CarliniWagner { searches: 2, steps: 10, initial_c: 1.0, ..CarliniWagner::default() };
    with_target(Norm::L2, |target| check_run(|| CarliniWagnerRun::new(config, target), 24));
}

#[test]
fn changed_states_of_deepfool_are_refused_or_end() {
    let config = DeepFool { steps: 8, overshoot: 0.0, ..DeepFool::default() };
    with_target(Norm::L2, |target| check_run(|| DeepFoolRun::new(config, target), 9));
}

#[test]
fn changed_states_of_hop_skip_jump_are_refused_or_end() {
    let config = HopSkipJump { steps: 3, tries: 20, initial_queries: 6, most_queries: 10 };
    for norm in [Norm::L2, Norm::Linf] {
        with_target(norm, |target| check_run(|| HopSkipJumpRun::new(config, target), 4));
    }
}

#[test]
fn changed_states_of_a_suite_are_refused_or_end() {
    let (x, z) = (unit(1, N, D, DType::F32), network(2, D, 4, DType::F32));
    let logits = |u: &Tensor, _: Query<'_>| z(u);
    let labels: Vec<u32> = z(&x).argmax(1).to_vec();
    for (norm, version) in [(Norm::L1, Version::Standard), (Norm::Linf, Version::Plus)] {
        let config = AutoAttack { version, steps: 5, queries: 6, ..AutoAttack::default() };
        let new = || {
            SuiteRun::new(
                Threat::new(norm, 0.02).around(&x),
                &labels,
                &keys(3, N),
                config.parts(norm),
                config.run,
            )
        };
        let resume = |state: &SuiteState| {
            let ball = Threat::new(norm, 0.02).around(&x);
            SuiteRun::resume(ball, &labels, &keys(3, N), config.parts(norm), config.run, 4, state)
        };
        let go_on = |state: &SuiteState| {
            if let Ok(mut run) = resume(&state.resealed()) {
                let rounds = (0..2000).take_while(|_| run.round(&logits)).count();
                assert!(rounds < 2000, "a suite goes on");
                run.finish();
            }
        };
        let mut run = new();
        let mut rounds = 0;
        loop {
            if rounds % 4 == 0 {
                changed(&run.state(), rounds, &|state| resume(state).is_err(), &go_on);
            }
            if !run.round(&logits) {
                break;
            }
            rounds += 1;
        }
        assert!(rounds > 50, "{norm}: {rounds} rounds");
    }
}
