//! The bound beside the measured adversarial loss, for several tasks on one encoder.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Threat};
use tarrl_bound::Chain;
use tarrl_data::{Dataset, Grouping, Manifest, Task};
use tarrl_eval::{
    BoundMeasurement, Downstream, MeasureConfig, ProbeConfig, features, linear_probe, measure_bound,
};
use tarrl_tensor::Key as Random;

use super::head::BATCH;
use super::{Lab, labels};
use crate::jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "bound", version: 1 };

/// Random groupings of the classes, beside the classes themselves and the natural groups.
const RANDOM_TASKS: u64 = 3;
/// Groups of a random grouping.
const GROUPS: usize = 4;

/// What a bound job gives.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Output {
    /// One for each radius of the tables.
    pub levels: Vec<Level>,
}

/// One radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Level {
    /// ε in pixels.
    pub epsilon: f64,
    /// R relative to the spread of the representations: the mean of the largest displacements that attacks reached.
    pub displacement: f64,
    /// One for each task.
    pub tasks: Vec<TaskLevel>,
}

/// One task at one radius; losses in nats, means over the same images.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TaskLevel {
    /// Its name.
    pub name: String,
    /// Images.
    pub n: usize,
    /// Clean loss.
    pub clean: Mean,
    /// Loss at the worst point found.
    pub attacked: Mean,
    /// The gap form of the bound.
    pub gap: Mean,
    /// The additive form.
    pub additive: Mean,
    /// Constant of the head.
    pub constant: f64,
    /// Samples in which a quantity exceeds the next: 0, or the program is wrong.
    pub violations: usize,
}

/// A mean with the half-width of its 95 % interval over the images.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The half-width.
    pub half_width: f64,
}

/// A job that measures the bound on the encoder of `pretrain`.
pub fn job(lab: &Arc<Lab>, pretrain: Key, manifest: &Manifest, name: &str, seed: u64) -> Job {
    let configs = configs(lab);
    let groupings = groupings(manifest);
    let n = lab.profile.bound.samples;
    let steps = lab.profile.attack.steps * configs.len() * (groupings.len() + 2);
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "measure": configs, "tasks": groupings, "images": n,
            "probe": ProbeConfig::default(), "subset": lab.profile.subset,
        }),
        inputs: vec![pretrain],
        seconds: 4.0 + 1e-3 * lab.profile.encoder.width.powi(2) * (n * steps) as f64,
    };
    let lab = lab.clone();
    Job::new(spec, move |context| {
        let images = lab.images()?;
        let encoder = lab.encoder(&context.input(0).folder)?;
        let encode = |x: &_| encoder.forward(x);
        let train = features(&encode, &images.train, &lab.device, BATCH);
        let sample = images.test.balanced_subset(
            n.min(images.test.len()) / images.test.classes.len(),
            Random::new(0).fold("bound"),
        )?;
        let key = Random::new(context.seed()).fold("bound");
        let downstream: Vec<Downstream> = tasks(&images.train, &groupings)
            .into_iter()
            .zip(tasks(&sample, &groupings))
            .map(|(fit, judged)| {
                let config = ProbeConfig::default();
                let key = key.fold(fit.name.as_str());
                let probe = linear_probe(&train, &labels(&fit.labels), fit.classes.len(), &config, key);
                Downstream { name: fit.name, labels: labels(&judged.labels), head: probe.head }
            })
            .collect();
        let pixels = lab.pixels(&sample);
        let mut levels = Vec::new();
        for (i, config) in configs.iter().enumerate() {
            context.progress(i as u64, configs.len() as u64, &format!("ε = {}", config.threat.epsilon));
            let measured = measure_bound(&encode, &pixels, &downstream, config, key);
            if measured.violations() > 0 {
                anyhow::bail!(
                    "the bound is violated by {} samples at ε = {}: the program is wrong, because the theorem is not",
                    measured.violations(),
                    config.threat.epsilon
                );
            }
            levels.push(level(&measured));
        }
        serde_json::to_value(Output { levels }).context("the bound as JSON")
    })
}

/// The classes, then each grouping.
fn tasks(data: &Dataset, groupings: &[Grouping]) -> Vec<Task> {
    let mut tasks = vec![Task::classes(data)];
    tasks.extend(groupings.iter().map(|grouping| grouping.apply(data)));
    tasks
}

/// The natural groups, where the dataset has some, and random ones that are the same for every encoder and seed.
fn groupings(manifest: &Manifest) -> Vec<Grouping> {
    let random = (1..=RANDOM_TASKS).map(|i| {
        let key = Random::new(i).fold("random task");
        Grouping::random(manifest.classes.len(), GROUPS.min(manifest.classes.len()), key)
            .named(format!("random {i}"))
    });
    manifest.coarse.iter().cloned().chain(random).collect()
}

fn configs(lab: &Lab) -> Vec<MeasureConfig> {
    let attack = &lab.profile.attack;
    let config = |epsilon: f64| MeasureConfig {
        threat: Threat::linf(epsilon),
        pgd: Pgd {
            steps: attack.steps,
            step_size: 2.5 * epsilon / attack.steps as f64,
            restarts: attack.restarts,
            ..Pgd::default()
        },
        batch: BATCH,
    };
    attack.epsilons.iter().map(|epsilon| config(epsilon.value())).collect()
}

fn level(measured: &BoundMeasurement) -> Level {
    let task = |task: &tarrl_eval::TaskBound| {
        let mean = |quantity: fn(&Chain) -> f64| {
            let interval = task.interval(quantity);
            Mean { mean: interval.mean, half_width: interval.half_width }
        };
        TaskLevel {
            name: task.name.clone(),
            n: task.chains.len(),
            clean: mean(|c| c.clean),
            attacked: mean(|c| c.attacked),
            gap: mean(|c| c.gap),
            additive: mean(|c| c.additive),
            constant: task.report.constant,
            violations: task.report.violations,
        }
    };
    Level {
        epsilon: measured.epsilon,
        displacement: measured.relative_displacement(),
        tasks: measured.tasks.iter().map(task).collect(),
    }
}
