use super::*;
use crate::testing::{golden_views, labels, normal};
use crate::{byol, nt_xent, simsiam};
use tarrl_tensor::{DType, cpu};

#[derive(Debug, Deserialize)]
struct File {
    objective: Objective,
}

fn read(text: &str) -> Result<Objective, String> {
    toml::from_str::<File>(&format!("objective = {text}"))
        .map(|file| file.objective)
        .map_err(|e| e.to_string())
}

/// One of each, as a file that says no more than the kind reads it.
fn all() -> Vec<Objective> {
    let kinds = [
        "nt-xent",
        "nt-xent-together",
        "moco-v2",
        "moco-v3",
        "byol",
        "simsiam",
        "barlow-twins",
        "vicreg",
        "w-mse",
        "swav",
        "dino",
        "supcon",
        "cross-entropy",
        "trades",
    ];
    kinds.iter().map(|kind| read(&format!("{{ kind = '{kind}' }}")).unwrap()).collect()
}

#[test]
fn method_files_name_it() {
    let half = Objective::NtXent { temperature: 0.5 };
    assert_eq!(read("{ kind = 'nt-xent', temperature = 0.5 }"), Ok(half));
    assert_eq!(read("{ kind = 'nt-xent' }"), Ok(Objective::default()));
    assert_eq!(toml::to_string(&half).unwrap(), "kind = \"nt-xent\"\ntemperature = 0.5\n");
    let one_sided = Objective::NtXentTogether { temperature: 0.5, sides: Sides::Anchor };
    assert_eq!(read("{ kind = 'nt-xent-together', sides = 'anchor' }"), Ok(one_sided));
    let scaled = BarlowTwins { scale: 0.1, ..BarlowTwins::default() };
    assert_eq!(read("{ kind = 'barlow-twins', scale = 0.1 }"), Ok(Objective::BarlowTwins(scaled)));
}

#[test]
fn every_kind_is_written_as_it_is_read_and_sound_by_itself() {
    for objective in all() {
        objective.check().unwrap();
        let text = toml::to_string(&objective).unwrap();
        let table = toml::from_str::<Objective>(&text).unwrap();
        assert_eq!(table, objective, "{text}");
    }
}

#[test]
fn mistakes_in_a_file_are_named() {
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
fn values_that_make_no_loss_are_named() {
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
        let message = read(text).unwrap().check().unwrap_err();
        assert!(message.contains(name) && message.contains("; give "), "{text}: {message}");
    }
}

#[test]
fn needs_say_what_a_method_must_have() {
    let needs = |kind: &str| read(&format!("{{ kind = '{kind}' }}")).unwrap().needs();
    assert_eq!(needs("nt-xent"), Needs::default());
    assert!(needs("byol").predictor && needs("byol").momentum && needs("byol").targets);
    assert!(needs("simsiam").predictor && !needs("simsiam").momentum && needs("simsiam").targets);
    assert_eq!(needs("moco-v2").queue, Some(4096));
    assert!(needs("dino").center && needs("dino").momentum && needs("dino").prototypes == Some(2048));
    assert!(needs("swav").prototypes == Some(512) && !needs("swav").momentum);
    assert!(["supcon", "cross-entropy", "trades"].iter().all(|kind| needs(kind).labels));
    // Whoever has a queue or a center has keys or a teacher to fill it.
    assert!(all().iter().map(Objective::needs).all(|n| n.momentum || (n.queue.is_none() && !n.center)));
}

#[test]
fn the_memory_it_starts_with_is_what_it_needs() {
    let device = cpu();
    for objective in all() {
        let needs = objective.needs();
        let queue = objective.queue(&device, Key::new(1), 3);
        assert_eq!(queue.map(|queue| queue.len()), needs.queue);
        assert_eq!(objective.center(&device).is_some(), needs.center);
    }
}

#[test]
fn the_choice_calls_the_function() {
    let [z, w] = golden_views();
    let loss = Objective::NtXent { temperature: 0.2 }.loss(&z, &w);
    assert_eq!(loss.item(), nt_xent(&z, &w, 0.2).item());
    let online = [z.clone(), w.clone()];
    let targets = [w.mul_scalar(0.5).add_scalar(0.3), z.add_scalar(-0.2)];
    let step = Embeddings { online: &online, targets: &targets, ..Embeddings::default() };
    let sum = byol(&z, &targets[1]).item() + byol(&w, &targets[0]).item();
    assert!((Objective::Byol {}.of(&step).item() - sum).abs() < 1e-14);
    let mean = (simsiam(&z, &targets[1]).item() + simsiam(&w, &targets[0]).item()) / 2.0;
    assert!((Objective::SimSiam {}.of(&step).item() - mean).abs() < 1e-14);
}

/// Given what it needs every objective is a finite number with finite gradients in every view, in f32 as in training.
#[test]
fn every_objective_computes_with_what_it_needs_and_reaches_every_view() {
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
        let needs = objective.needs();
        let (queue, center) = (objective.queue(&device, Key::new(1), 4), objective.center(&device));
        let step = Embeddings {
            online: &views,
            targets: if needs.targets { &targets } else { &[] },
            labels: needs.labels.then_some(&y),
            queue: queue.as_ref(),
            center: center.as_ref(),
            key: Key::new(7),
        };
        let loss = objective.of(&step);
        assert!(loss.item().is_finite(), "{objective:?}");
        for gradient in tarrl_tensor::grad(&loss, &[&views[0], &views[1]]) {
            let g = gradient.to_vec::<f32>();
            assert!(g.iter().all(|g| g.is_finite()) && g.iter().any(|&g| g != 0.0), "{objective:?}: {g:?}");
        }
    }
}

/// Of three views, the mean over the pairs.
#[test]
fn pairs_are_averaged() {
    let z = [normal(1, 5, 3), normal(2, 5, 3), normal(3, 5, 3)];
    let objective = Objective::VicReg(VicReg::default());
    let pairs = [(0, 1), (0, 2), (1, 2)].map(|(i, j)| objective.loss(&z[i], &z[j]).item());
    let all = objective.of(&Embeddings { online: &z, ..Embeddings::default() }).item();
    assert!((all - pairs.iter().sum::<f64>() / 3.0).abs() < 1e-13);
}

#[test]
#[should_panic(expected = "an objective with targets: none of view 1")]
fn a_missing_target_is_named() {
    let [z, w] = golden_views();
    Objective::Byol {}.loss(&z, &w);
}

#[test]
#[should_panic(expected = "moco-v2: no queue")]
fn a_missing_queue_is_named() {
    let [z, w] = golden_views();
    Objective::MocoV2(MocoV2::default()).loss(&z, &w);
}
