//! What must not change a result.

use super::{NORMS, Network, samples, threat};
use crate::autoattack::{AutoAttack, Mode, RunConfig, SuiteOutcome, SuiteRun, SuiteState, Version};
use crate::driver::EarlyExit;
use crate::threat::rows::row_index;
use crate::threat::{Norm, Threat};
use tarrl_tensor::{Key, Tensor, cpu};

const SMALL: AutoAttack = AutoAttack {
    version: Version::Standard,
    mode: Mode::Reference,
    steps: 12,
    queries: 25,
    run: RunConfig { batch: 256, early_exit: EarlyExit::AtOnce, draws: 1, budget: None },
};

fn run(
    network: &Network,
    config: &AutoAttack,
    threat: &Threat,
    (x, labels, keys): &(Tensor, Vec<u32>, Vec<Key>),
) -> SuiteOutcome {
    super::super::auto_attack(&|u| network.logits(u), x, labels, threat, config, keys)
}

#[track_caller]
fn same(a: &SuiteOutcome, b: &SuiteOutcome, order: &[usize]) {
    let rows = |found: &SuiteOutcome, i: usize| found.adversarial.slice(0, i, 1).to_vec::<f32>();
    for (i, &j) in order.iter().enumerate() {
        assert_eq!(rows(a, i), rows(b, j), "sample {j}");
        assert_eq!((a.success[i], a.margin[i].to_bits()), (b.success[j], b.margin[j].to_bits()));
        assert_eq!((a.forward[i], a.backward[i], &a.origin[i]), (b.forward[j], b.backward[j], &b.origin[j]));
    }
}

#[test]
fn batch_size_and_order_change_no_bit_of_a_suite() {
    let network = Network::new(5);
    let all = samples(&network, 10);
    let order = [3usize, 9, 0, 7, 1, 2, 8, 4, 6, 5];
    let moved = (
        all.0.gather(0, &row_index(&all.0, &order)),
        order.iter().map(|&i| all.1[i]).collect(),
        order.iter().map(|&i| all.2[i]).collect(),
    );
    for norm in NORMS {
        for version in [Version::Standard, Version::Plus, Version::Rand] {
            let mut config = AutoAttack { version, ..SMALL };
            config.run.draws = if version == Version::Rand { 3 } else { 1 };
            let whole = run(&network, &config, &threat(norm), &all);
            let piecewise = AutoAttack { run: RunConfig { batch: 3, ..config.run }, ..config };
            same(&run(&network, &piecewise, &threat(norm), &moved), &whole, &order);
        }
    }
}

/// Interrupted after any round, written as JSON and read again, with batches of another size.
#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let network = Network::new(4);
    let (x, labels, keys) = samples(&network, 8);
    let logits = |u: &Tensor, _: crate::Query<'_>| network.logits(u);
    for norm in NORMS {
        let ball = threat(norm).around(&x);
        let parts = AutoAttack { version: Version::Plus, ..SMALL }.parts(norm);
        let begin = || SuiteRun::new(ball.clone(), &labels, &keys, parts.clone(), SMALL.run);
        let mut straight = begin();
        while straight.round(&logits) {}
        let mut broken = begin();
        let small = RunConfig { batch: 2, ..SMALL.run };
        let mut rounds = 0;
        while broken.round(&logits) {
            rounds += 1;
            if rounds % 5 == 1 {
                let text = serde_json::to_string(&broken.state()).unwrap();
                let state: SuiteState = serde_json::from_str(&text).unwrap();
                broken =
                    SuiteRun::resume(ball.clone(), &labels, &keys, parts.clone(), small, 4, &state).unwrap();
            }
        }
        assert!(rounds > 50, "{norm}: {rounds} rounds");
        assert_eq!(broken.progress().finished, 8);
        same(&broken.finish(), &straight.finish(), &[0, 1, 2, 3, 4, 5, 6, 7]);
    }
}

#[test]
fn a_state_of_other_samples_or_attacks_is_refused() {
    let network = Network::new(4);
    let (x, labels, keys) = samples(&network, 2);
    let ball = |epsilon| Threat::linf(epsilon).around(&x);
    let parts = |steps| AutoAttack { steps, ..SMALL }.parts(Norm::Linf);
    let state = SuiteRun::new(ball(0.1), &labels, &keys, parts(5), SMALL.run).state();
    let resume =
        |epsilon, steps| SuiteRun::resume(ball(epsilon), &labels, &keys, parts(steps), SMALL.run, 4, &state);
    assert!(resume(0.1, 5).is_ok());
    let why = |refused: Result<SuiteRun, crate::StateError>| refused.err().unwrap().to_string();
    assert!(why(resume(0.2, 5)).contains("another problem"));
    assert!(why(resume(0.1, 6)).contains("same configuration"));
}

/// A state that was written for a model of other classes, or changed so, is refused when it is resumed and not in the
/// midst of the attack.
#[test]
fn a_state_of_another_number_of_classes_is_refused() {
    let network = Network::new(4);
    let (x, labels, keys) = samples(&network, 2);
    let (ball, parts) = (threat(Norm::Linf).around(&x), SMALL.parts(Norm::Linf));
    let mut run = SuiteRun::new(ball.clone(), &labels, &keys, parts.clone(), SMALL.run);
    let resume = |classes, state: &SuiteState| {
        SuiteRun::resume(ball.clone(), &labels, &keys, parts.clone(), SMALL.run, classes, state).err()
    };
    // Before the first evaluation no classes are known.
    assert!(resume(3, &run.state()).is_none());
    run.round(&|u, _| network.logits(u));
    assert!(run.progress().finished < 2);
    assert!(resume(4, &run.state()).is_none());
    for classes in [3, 5] {
        let error = resume(classes, &run.state()).unwrap().to_string();
        assert!(error.contains("are not those of the model"), "{error}");
    }
}

/// Classes of a sample that has not been evaluated are those of no run.
#[test]
fn a_sample_without_an_evaluation_has_no_classes() {
    let network = Network::new(4);
    let (x, labels, keys) = samples(&network, 1);
    let (ball, parts) = (threat(Norm::Linf).around(&x), SMALL.parts(Norm::Linf));
    let run = SuiteRun::new(ball.clone(), &labels, &keys, parts.clone(), SMALL.run);
    let text = serde_json::to_string(&run.state()).unwrap();
    assert!(text.contains("\"rivals\":[]"), "{text}");
    let state: SuiteState =
        serde_json::from_str(&text.replace("\"rivals\":[]", "\"rivals\":[1,2,3,4,5]")).unwrap();
    let refused =
        SuiteRun::resume(ball, &labels, &keys, parts, SMALL.run, 4, &state.resealed()).err().unwrap();
    assert!(refused.to_string().contains("has not been evaluated"), "{refused}");
}

/// The difference of logits ratio does not change under z → 4z + 8, so neither does its ascent. The floor of
/// its denominator, 1e-12, moves values by about as much.
#[test]
fn dlr_does_not_change_with_the_scale_of_logits() {
    let network = Network::new(4);
    let (x, labels, keys) = samples(&network, 8);
    let config = crate::Apgd { steps: 30, ..crate::Apgd::default() };
    for norm in NORMS {
        let attack = |scale: f64, shift: f64| {
            let parts = vec![crate::AttackSpec::Apgd { loss: crate::LabelLoss::Dlr, config }];
            let mut run = SuiteRun::new(threat(norm).around(&x), &labels, &keys, parts, RunConfig::default());
            while run.round(&|u, _| network.logits(u).mul_scalar(scale).add_scalar(shift)) {}
            run.finish()
        };
        let (plain, scaled) = (attack(1.0, 0.0), attack(4.0, 8.0));
        assert_eq!(plain.success, scaled.success);
        assert_eq!(plain.origin, scaled.origin);
    }
}

/// At radius zero nothing can move; every ball contains the smaller ones.
#[test]
fn no_radius_breaks_nothing_and_a_larger_one_never_loses() {
    let network = Network::new(4);
    let all = samples(&network, 12);
    for norm in NORMS {
        let still = run(&network, &SMALL, &Threat::new(norm, 0.0), &all);
        assert!(still.success.iter().all(|&s| !s));
        assert_eq!(still.adversarial.to_vec::<f32>(), all.0.to_vec::<f32>());
        let fallen = |factor: f64| {
            let threat = Threat::new(norm, factor * threat(norm).epsilon);
            run(&network, &AutoAttack { steps: 30, ..SMALL }, &threat, &all).success
        };
        let (small, large, all_of_it) = (fallen(0.5), fallen(1.5), fallen(20.0));
        assert!(small.iter().zip(&large).all(|(a, b)| a <= b), "{norm}: {small:?} {large:?}");
        assert!(small.contains(&false) && all_of_it.iter().all(|&s| s));
    }
}

/// States are read from files of earlier builds of the same version of the format, so that the names of their fields stay.
#[test]
fn stored_states_keep_their_field_names() {
    let fields: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/data/suite_state_fields.json")).unwrap();
    let field = |name: &str| fields[name].as_str().unwrap();
    let names = |value: &serde_json::Value| {
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        serde_json::Value::from(names)
    };
    let network = Network::new(4);
    let (x, labels, keys) = samples(&network, 3);
    let ball = Threat::l2(0.001).around(&x); // all samples go through all attacks
    let mut run = SuiteRun::new(ball, &labels, &keys, SMALL.parts(Norm::L2), SMALL.run);
    let mut attacks = std::collections::BTreeSet::new();
    while run.round(&|u, _| network.logits(u)) {
        let state = serde_json::to_value(run.state()).unwrap();
        assert_eq!(names(&state), fields["envelope"]);
        let state = &state["content"];
        assert_eq!(names(state), fields["state"]);
        for sample in state[field("samples")].as_array().unwrap() {
            // States of earlier builds have no distance, nor has one without a mistake.
            let mut named = sample.clone();
            named.as_object_mut().unwrap().remove("distance");
            assert_eq!(names(&named), fields["sample"]);
            attacks.extend(sample[field("attack")].as_object().into_iter().flat_map(|o| o.keys().cloned()));
        }
    }
    assert_eq!(serde_json::Value::from_iter(attacks), fields["attacks"]);
}

/// The attacks step in f32: a ball around any other number would be another ball.
#[test]
#[should_panic(expected = "f32, in which its attacks step, does not hold the coordinate 0.1")]
fn inputs_that_f32_does_not_hold_are_refused() {
    let x = Tensor::new(&cpu(), [1, 2], &[0.5f64, 0.1]);
    SuiteRun::new(Threat::linf(0.1).around(&x), &[0], &[Key::new(1)], SMALL.parts(Norm::Linf), SMALL.run);
}

#[test]
fn apgd_stays_inside_the_ball_around_inputs_of_f64() {
    let d = 64u32;
    let x: Vec<f64> = (0..2 * d).map(|i| (f64::from(i) * 0.7).sin().abs()).collect();
    let x = Tensor::new(&cpu(), [2, d as usize], &x);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        for epsilon in [0.0, 0.1] {
            let ball = Threat::new(norm, epsilon).around(&x);
            let evaluate = |u: &Tensor, query: crate::Query<'_>| {
                assert_eq!(ball.keep(query.rows).contains(u), vec![true; query.rows.len()]);
                crate::Evaluation::of(u.square().sum(1).reshape([query.rows.len()]))
            };
            let keys = [Key::new(1), Key::new(2)];
            let problem = crate::Problem::new(ball.clone(), &evaluate, &keys, crate::Limits::default());
            crate::apgd(&problem, &crate::Apgd { steps: 10, restarts: 2, ..crate::Apgd::default() });
        }
    }
}
