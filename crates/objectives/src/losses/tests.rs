use super::*;
use crate::embeddings::Embeddings;
use crate::needs::{Needs, Views};
use crate::testing::{golden_views, labels, normal};
use crate::{Sides, byol, nt_xent, simsiam};
use tarrl_tensor::{DType, Key, Tensor, cpu};

#[derive(Debug, Deserialize)]
struct File {
    objective: Objective,
}

fn read(text: &str) -> Result<Objective, String> {
    toml::from_str::<File>(&format!("objective = {text}"))
        .map(|file| file.objective)
        .map_err(|e| e.to_string())
}

/// Each loss, read from a file that names nothing but its kind.
fn all() -> Vec<Objective> {
    Objective::KINDS.iter().map(|kind| read(&format!("{{ kind = '{kind}' }}")).unwrap()).collect()
}

/// The loss of two views and nothing else.
fn of_two_views(objective: &Objective, z1: &Tensor, z2: &Tensor) -> Tensor {
    objective.as_loss().loss(&Embeddings { online: &[z1.clone(), z2.clone()], ..Embeddings::default() })
}

#[test]
fn method_files_name_a_loss_and_its_settings() {
    let half = Objective::NtXent(NtXent { temperature: 0.5 });
    assert_eq!(read("{ kind = 'nt-xent', temperature = 0.5 }"), Ok(half));
    assert_eq!(read("{ kind = 'nt-xent' }"), Ok(Objective::default()));
    assert_eq!(toml::to_string(&half).unwrap(), "kind = \"nt-xent\"\ntemperature = 0.5\n");
    let one_sided = Objective::NtXentTogether(NtXentTogether { temperature: 0.5, sides: Sides::Anchor });
    assert_eq!(read("{ kind = 'nt-xent-together', sides = 'anchor' }"), Ok(one_sided));
    let scaled = BarlowTwins { scale: 0.1, ..BarlowTwins::default() };
    assert_eq!(read("{ kind = 'barlow-twins', scale = 0.1 }"), Ok(Objective::BarlowTwins(scaled)));
}

#[test]
fn every_kind_round_trips_and_its_defaults_are_valid() {
    for objective in all() {
        objective.as_loss().check().unwrap();
        let text = toml::to_string(&objective).unwrap();
        let table = toml::from_str::<Objective>(&text).unwrap();
        assert_eq!(table, objective, "{text}");
    }
}

#[test]
fn unknown_keys_and_kinds_are_named() {
    let wrong = |text: &str, word: &str| {
        let message = read(text).unwrap_err();
        assert!(message.contains(word), "{message}");
    };
    wrong("{ kind = 'nt-xent', temprature = 0.5 }", "temprature");
    wrong("{ kind = 'simclr' }", "simclr");
    wrong("{ kind = 'nt-xent', temperature = 0.0 }", "must be positive");
    wrong("{ kind = 'nt-xent', temperature = nan }", "must be positive");
    wrong("{ kind = 'vicreg', covariant = 1.0 }", "covariant");
    wrong("{ kind = 'byol', temperature = 1.0 }", "temperature");
}

#[test]
fn settings_out_of_range_are_named() {
    for (text, name) in [
        ("{ kind = 'moco-v2', queue = 0 }", "queue is 0"),
        ("{ kind = 'moco-v2', temperature = -1.0 }", "temperature is -1"),
        ("{ kind = 'moco-v3', temperature = inf }", "temperature is inf"),
        ("{ kind = 'barlow-twins', off_diagonal = -0.1 }", "off_diagonal is -0.1"),
        ("{ kind = 'barlow-twins', scale = 0.0 }", "scale is 0"),
        ("{ kind = 'vicreg', variance = nan }", "variance is NaN"),
        ("{ kind = 'w-mse', block = 1 }", "block is 1"),
        ("{ kind = 'w-mse', epsilon = 1.0 }", "epsilon is 1"),
        ("{ kind = 'swav', iterations = 0 }", "iterations is 0"),
        ("{ kind = 'swav', prototypes = 1 }", "prototypes is 1"),
        ("{ kind = 'dino', center_momentum = 1.0 }", "center_momentum is 1"),
        ("{ kind = 'dino', teacher_temperature = 0.0 }", "teacher_temperature is 0"),
        ("{ kind = 'supcon', base_temperature = -1.0 }", "base_temperature is -1"),
        ("{ kind = 'trades', beta = -6.0 }", "beta is -6"),
    ] {
        let message = read(text).unwrap().as_loss().check().unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("; give "), "{text}: {message}");
    }
}

#[test]
fn needs_name_networks_labels_and_memory() {
    let needs = |kind: &str| read(&format!("{{ kind = '{kind}' }}")).unwrap().as_loss().needs();
    assert_eq!(needs("nt-xent"), Needs::default());
    assert!(needs("byol").predictor && needs("byol").momentum && needs("byol").targets);
    assert!(needs("simsiam").predictor && !needs("simsiam").momentum && needs("simsiam").targets);
    assert_eq!(needs("moco-v2").queue, Some(4096));
    assert!(needs("dino").center && needs("dino").momentum && needs("dino").prototypes == Some(2048));
    assert!(needs("swav").prototypes == Some(512) && !needs("swav").momentum);
    assert!(["supcon", "cross-entropy", "trades"].iter().all(|kind| needs(kind).labels));
    assert_eq!(needs("cross-entropy").views, Views::AtLeast(1));
    assert_eq!(needs("trades").views, Views::CleanAndAdversarial);
    assert!(["cross-entropy", "trades"].iter().all(|kind| needs(kind).classifier));
    assert!(!needs("supcon").classifier);
    // A queue or a center is filled from a momentum encoder.
    assert!(
        all().iter().map(|o| o.as_loss().needs()).all(|n| n.momentum || (n.queue.is_none() && !n.center))
    );
}

#[test]
fn the_initial_state_is_what_the_loss_needs() {
    for objective in all() {
        let needs = objective.as_loss().needs();
        let state = objective.as_loss().initial_state(&cpu(), Key::new(1), 3);
        let is = |name| state.as_ref().is_some_and(|state| state.name() == name);
        let length = state.iter().map(|state| state.tensors()[0].1.shape()[0]).next();
        assert_eq!(is("queue").then_some(length).flatten(), needs.queue);
        assert_eq!(is("center").then_some(length).flatten(), needs.prototypes.filter(|_| needs.center));
        assert_eq!(state.is_some(), needs.queue.is_some() || needs.center);
    }
}

/// A queue takes the keys of all views, a center those of the global ones.
#[test]
fn updates_reach_the_state_of_the_loss() {
    let targets = [normal(1, 2, 3), normal(2, 2, 3), normal(3, 2, 3)].map(|z| z.cast(DType::F32));
    let moco = MocoV2 { queue: 6, ..MocoV2::default() };
    let mut state = moco.initial_state(&cpu(), Key::new(1), 3).unwrap();
    moco.update(state.as_mut(), &targets);
    let all = Tensor::concat(&[&targets[0], &targets[1], &targets[2]], 0).l2_normalize(1e-12);
    assert_eq!(state.tensors()[0].1.to_vec::<f32>(), all.to_vec::<f32>());

    let dino = Dino { prototypes: 3, center_momentum: 0.0, ..Dino::default() };
    let mut state = dino.initial_state(&cpu(), Key::new(1), 3).unwrap();
    dino.update(state.as_mut(), &targets);
    let mean = Tensor::concat(&[&targets[0], &targets[1]], 0).mean(0);
    assert_eq!(state.tensors()[0].1.to_vec::<f32>(), mean.to_vec::<f32>());
}

#[test]
#[should_panic(expected = "the state `center` belongs to another loss")]
fn the_state_of_another_loss_is_refused() {
    let mut state = Dino::default().initial_state(&cpu(), Key::new(1), 3).unwrap();
    MocoV2::default().update(state.as_mut(), &[]);
}

#[test]
fn an_objective_calls_its_loss_function() {
    let [z, w] = golden_views();
    let loss = of_two_views(&Objective::NtXent(NtXent { temperature: 0.2 }), &z, &w);
    assert_eq!(loss.item(), nt_xent(&z, &w, 0.2).item());
    let online = [z.clone(), w.clone()];
    let targets = [w.mul_scalar(0.5).add_scalar(0.3), z.add_scalar(-0.2)];
    let step = Embeddings { online: &online, targets: &targets, ..Embeddings::default() };
    let sum = byol(&z, &targets[1]).item() + byol(&w, &targets[0]).item();
    assert!((Byol {}.loss(&step).item() - sum).abs() < 1e-14);
    let mean = (simsiam(&z, &targets[1]).item() + simsiam(&w, &targets[0]).item()) / 2.0;
    assert!((SimSiam {}.loss(&step).item() - mean).abs() < 1e-14);
}

/// Given what it needs, every objective is finite, with finite gradients in every view, in f32 as in training.
#[test]
fn every_objective_has_a_finite_gradient_in_every_view() {
    let device = cpu();
    let views = [normal(1, 8, 4), normal(2, 8, 4)].map(|z| z.cast(DType::F32).requires_grad());
    let targets = [normal(3, 8, 4), normal(4, 8, 4)].map(|z| z.cast(DType::F32));
    let y = labels(&[0, 1, 2, 3, 0, 1, 2, 3]);
    for mut objective in all() {
        if let Objective::WMse(config) = &mut objective {
            config.block = 8;
        }
        if let Objective::Dino(config) = &mut objective {
            config.prototypes = 4;
        }
        let loss = objective.as_loss();
        let needs = loss.needs();
        let state = loss.initial_state(&device, Key::new(1), 4);
        let step = Embeddings {
            online: &views,
            targets: if needs.targets { &targets } else { &[] },
            labels: needs.labels.then_some(&y),
            state: state.as_deref(),
            key: Key::new(7),
        };
        let loss = loss.loss(&step);
        assert!(loss.item().is_finite(), "{objective:?}");
        for gradient in tarrl_tensor::grad(&loss, &[&views[0], &views[1]]) {
            let g = gradient.to_vec::<f32>();
            assert!(g.iter().all(|g| g.is_finite()) && g.iter().any(|&g| g != 0.0), "{objective:?}: {g:?}");
        }
    }
}

/// Of three views, the mean over the pairs.
#[test]
fn losses_of_pairs_are_averaged_over_pairs() {
    let z = [normal(1, 5, 3), normal(2, 5, 3), normal(3, 5, 3)];
    let objective = Objective::VicReg(VicReg::default());
    let pairs = [(0, 1), (0, 2), (1, 2)].map(|(i, j)| of_two_views(&objective, &z[i], &z[j]).item());
    let all = objective.as_loss().loss(&Embeddings { online: &z, ..Embeddings::default() }).item();
    assert!((all - pairs.iter().sum::<f64>() / 3.0).abs() < 1e-13);
}

#[test]
#[should_panic(expected = "an objective with targets: none of view 1")]
fn a_missing_target_is_named() {
    let [z, w] = golden_views();
    of_two_views(&Objective::Byol(Byol {}), &z, &w);
}

#[test]
#[should_panic(expected = "moco-v2: no queue")]
fn a_missing_queue_is_named() {
    let [z, w] = golden_views();
    of_two_views(&Objective::MocoV2(MocoV2::default()), &z, &w);
}
