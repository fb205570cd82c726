use super::*;
use crate::displacement_attack;
use crate::toy::Toy;
use proptest::prelude::*;
use tarrl_certify::{CertifyConfig, Provenance, certify};

fn tasks(toy: &Toy, key: Key) -> Vec<FittedTask> {
    let other = Toy::new(99, toy.labels.len(), toy.head.features(), 2, 1);
    let labels: Vec<usize> = toy.labels.iter().map(|&y| y as usize).collect();
    let coarse = labels.iter().map(|&y| y.min(1)).collect();
    let targets: Vec<f64> = labels.iter().map(|&y| 0.25 * y as f64).collect();
    let weight: Vec<f64> = other.head.weight()[..toy.head.features()].to_vec();
    let regression = RegressionHead::new(weight.len(), weight.clone(), vec![0.125]);
    [
        ("classes", TaskHead::Classifier { head: toy.head.clone(), labels }),
        ("coarse", TaskHead::Classifier { head: other.head, labels: coarse }),
        ("number", TaskHead::Regressor { head: regression, weight, targets }),
    ]
    .map(|(name, head)| FittedTask { name: name.into(), family: name.into(), head, key: key.fold(name) })
    .into()
}

/// Displacements and the bound of a random network at a radius.
fn measure(toy: &Toy, epsilon: f64, key: Key) -> (Displacements, BoundLevel) {
    let encoder = |x: &Tensor| toy.encode(x);
    let network = Network::trace(&encoder, &toy.images.slice(0, 0, 1)).unwrap();
    let config = CertifyConfig { threat: Threat::linf(epsilon), ..CertifyConfig::default() };
    let (samples, cost) = certify(&network, &toy.images, &config).unwrap();
    let attack = displacement_attack(&config.threat, 10, 2);
    let displacements =
        Displacements::measure(&encoder, &network, &toy.images, &config.threat, &samples, &attack, key)
            .unwrap();
    let provenance = Provenance { encoder: String::new(), samples: String::new(), config, cost };
    let tasks = tasks(toy, key);
    let evaluation = BoundEvaluation {
        encoder: &encoder,
        network: &network,
        images: &toy.images,
        tasks: &tasks,
        steps: 10,
    };
    let level = evaluation.measure(&displacements, &Certificates { provenance, samples }).unwrap();
    (displacements, level)
}

fn losses(attacked: [f64; 2], certified: [f64; 2], correct: [usize; 3]) -> TaskLosses {
    let [clean, gap] = [vec![0.1, 0.3], vec![3.0, 5.0]];
    let (attacked, certified) = (attacked.to_vec(), certified.to_vec());
    TaskLosses { clean, attacked, gap, certified, bound_increase: 2.0, correct: Some(correct.into()) }
}

#[test]
fn a_family_is_the_mean_of_its_tasks() {
    let tasks = [losses([1.0, 1.0], [2.0, 4.0], [2, 1, 0]), losses([2.0, 2.0], [2.0, 2.0], [2, 2, 2])];
    let found = summarize("f", "f", &[&tasks[0], &tasks[1]]);
    assert_eq!((found.n, found.tasks), (2, 2));
    assert_eq!((found.clean.mean, found.attacked.mean, found.certified.mean), (0.2, 1.5, 2.5));
    assert_eq!(found.worst_ratio, 3.0);
    assert_eq!(found.correct, Some(CorrectCounts { clean: 4, attacked: 3, certified: 2 }));
}

#[test]
fn counts_and_increase_are_stored_under_their_old_names() {
    let level = summarize("f", "f", &[&losses([1.0, 1.0], [2.0, 4.0], [2, 1, 0])]);
    let json = serde_json::to_value(&level).unwrap();
    assert_eq!((&json["correct"], &json["rise"]), (&serde_json::json!([2, 1, 0]), &2.0.into()));
    let again: TaskBound = serde_json::from_value(json).unwrap();
    assert_eq!((again.correct, again.bound_increase), (level.correct, 2.0));
}

#[test]
fn at_radius_zero_all_losses_are_the_clean_loss() {
    let toy = Toy::new(2, 12, 5, 3, 1);
    let (displacements, level) = measure(&toy, 0.0, Key::new(1));
    assert!(displacements.reached.iter().all(|&r| r == 0.0));
    for task in &level.tasks {
        assert_eq!(task.clean.mean, task.attacked.mean);
        assert!((task.gap.mean - task.clean.mean).abs() < 1e-12, "{task:?}");
        assert!(task.correct.is_none_or(|counts| counts.clean == counts.attacked), "{task:?}");
    }
}

#[test]
fn attacks_on_tasks_can_only_raise_the_displacement() {
    let toy = Toy::new(8, 12, 5, 3, 1);
    let (displacements, level) = measure(&toy, 0.1, Key::new(1));
    let z = toy.encode(&toy.images).array().to_f64();
    let mean = displacements.reached.iter().sum::<f64>() / 12.0;
    assert!(mean > 0.0 && level.displacement >= mean / spread(&z, 5) * (1.0 - 1e-6));
    assert!(level.displacement <= level.certified_displacement);
    assert!(level.tightness >= 1.0);
}

/// An encoder, certificates and displacements at ε = 0.05, and one task with a head scaled by `scale`.
fn measure_scaled(scale: f64) -> Result<BoundLevel, BoundError> {
    let toy = Toy::new(5, 8, 5, 3, 1);
    let encoder = |x: &Tensor| toy.encode(x);
    let network = Network::trace(&encoder, &toy.images.slice(0, 0, 1)).unwrap();
    let config = CertifyConfig { threat: Threat::linf(0.05), ..CertifyConfig::default() };
    let (samples, cost) = certify(&network, &toy.images, &config).unwrap();
    let attack = displacement_attack(&config.threat, 5, 1);
    let (threat, key) = (&config.threat, Key::new(1));
    let displacements =
        Displacements::measure(&encoder, &network, &toy.images, threat, &samples, &attack, key).unwrap();
    let weight = toy.head.weight().iter().map(|w| scale * w).collect();
    let head = LinearHead::new(3, 5, weight, toy.head.bias().iter().map(|b| scale * b).collect());
    let labels = toy.labels.iter().map(|&y| y as usize).collect();
    let head = TaskHead::Classifier { head, labels };
    let tasks = [FittedTask { name: "large".into(), family: "large".into(), head, key }];
    let evaluation = BoundEvaluation {
        encoder: &encoder,
        network: &network,
        images: &toy.images,
        tasks: &tasks,
        steps: 5,
    };
    let provenance = Provenance { encoder: String::new(), samples: String::new(), config, cost };
    evaluation.measure(&displacements, &Certificates { provenance, samples })
}

#[test]
fn losses_too_large_to_compare_are_refused_and_no_theorem_is_called_violated() {
    for scale in [1.0, 1e10, 1e20] {
        let level = measure_scaled(scale).unwrap();
        let task = &level.tasks[0];
        for Mean { mean, half_width } in [task.clean, task.attacked, task.gap, task.certified] {
            assert!(mean.is_finite() && half_width.is_finite(), "{scale:e}: {task:?}");
        }
    }
    for scale in [1e100, 1e153, 1e160, 1e300, 1e308] {
        let error = measure_scaled(scale).unwrap_err();
        assert!(matches!(error, BoundError::LossTooLarge { .. }), "{scale:e}: {error}");
    }
}

#[test]
fn threads_change_no_bit() {
    let run = |threads| measure(&Toy::new(5, 14, 6, 3, threads), 0.05, Key::new(3)).1;
    let json = |level: &BoundLevel| serde_json::to_string(level).unwrap();
    assert_eq!(json(&run(1)), json(&run(3)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Every sample of every task is checked inside, on random networks that no one trained to be smooth.
    #[test]
    fn clean_attacked_and_bounded_loss_are_in_order(seed in 0u64..10_000, epsilon in 0.001f64..0.5) {
        let toy = Toy::new(seed, 10, 6, 3, 1);
        let (_, level) = measure(&toy, epsilon, Key::new(seed));
        for task in &level.tasks {
            let (attacked, gap) = (task.attacked.mean, task.gap.mean);
            prop_assert!(task.clean.mean < attacked && attacked <= gap + 1e-11 * (1.0 + gap), "{:?}", task);
            prop_assert!(attacked <= task.certified.mean * (1.0 + 1e-11) + 1e-11 && task.worst_ratio >= 1.0 - 1e-11);
            if let Some(counts) = task.correct {
                prop_assert!(counts.certified <= counts.attacked && counts.attacked <= counts.clean);
            }
        }
    }
}
