//! Accuracy under PGD at every radius of the study, through encoder and head together.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Threat};
use tarrl_encoders::Arch;
use tarrl_eval::{RobustConfig, robust_curve};
use tarrl_tensor::Key as Random;

use super::head::{self, BATCH};
use super::{StudyContext, labels, pretrain};
use crate::jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "attack", version: 1 };

/// The file with example images.
pub const EXAMPLES: &str = "examples.json";

/// What an attack job gives.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Output {
    /// Test images.
    pub n: usize,
    /// Images that are classified correctly without attack.
    pub clean_correct: usize,
    /// One for each radius, smallest first.
    pub curve: Vec<Level>,
}

/// One radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Level {
    /// ε in pixels.
    pub epsilon: f64,
    /// Images that no attack up to this radius broke.
    pub correct: usize,
    /// Mean forward passes of an image up to this radius.
    pub forward: f64,
    /// Mean backward passes.
    pub backward: f64,
}

/// An example image at one radius, in gray levels or colors of a byte.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Example {
    /// ε in pixels.
    pub epsilon: f64,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// The label.
    pub label: u32,
    /// The prediction for the clean image.
    pub said: u32,
    /// The prediction for the attacked one.
    pub said_attacked: u32,
    /// Clean pixels.
    pub clean: Vec<u8>,
    /// Attacked pixels.
    pub attacked: Vec<u8>,
    /// Their difference, enlarged so that ±ε fills the range; gray is none.
    pub change: Vec<u8>,
}

/// A job that attacks the classifier made of the encoder of `pretrain` and the head of `head`.
pub fn job(lab: &Arc<StudyContext>, [pretrain, head]: [Key; 2], name: &str, seed: u64) -> Job {
    let radii = radii(lab);
    let config = config(lab);
    let test = lab.profile.subset.test.unwrap_or(10_000);
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"attack": config, "radii": radii, "subset": lab.profile.subset}),
        inputs: vec![pretrain, head],
        seconds: 2e-4 * pretrain::macs(lab.profile.encoder.arch) / pretrain::macs(Arch::ConvSmall)
            * lab.profile.encoder.width.powi(2)
            * (test * config.pgd.steps * config.pgd.restarts) as f64
            * 4.0,
    };
    let lab = lab.clone();
    Job::new(spec, move |context| {
        let images = lab.images()?;
        let encoder = lab.encoder(&context.input(0).folder)?;
        let head = head::parse(context.input(1))?.head.head();
        let key = Random::new(context.seed()).fold("attack");
        let (pixels, labels) = (lab.pixels(&images.test), labels(&images.test.labels));
        let curve = robust_curve(&|x| encoder.forward(x), &head, &pixels, &labels, &radii, &config, key);

        let examples: Vec<Example> = curve
            .iter()
            .filter(|level| lab.profile.attack.epsilons.iter().any(|e| e.value() == level.epsilon))
            .flat_map(|level| level.examples.iter().map(|example| show(example, level.epsilon)))
            .collect();
        let path = context.output(EXAMPLES);
        std::fs::write(&path, serde_json::to_vec(&examples)?)
            .with_context(|| format!("cannot write {}", path.display()))?;

        let n = labels.len();
        let mean =
            |passes: &dyn Fn(usize) -> u32| (0..n).map(|i| f64::from(passes(i))).sum::<f64>() / n as f64;
        let levels = curve.iter().map(|level| Level {
            epsilon: level.epsilon,
            correct: level.robust_correct(),
            forward: mean(&|i| level.samples[i].forward),
            backward: mean(&|i| level.samples[i].backward),
        });
        let output = Output { n, clean_correct: curve[0].clean_correct(), curve: levels.collect() };
        serde_json::to_value(output).context("the curve as JSON")
    })
}

/// The radii of the tables and of the curve together, rising.
pub fn radii(lab: &StudyContext) -> Vec<f64> {
    let attack = &lab.profile.attack;
    let mut radii: Vec<f64> = attack.epsilons.iter().chain(&attack.curve).map(|e| e.value()).collect();
    radii.sort_by(f64::total_cmp);
    radii.dedup();
    radii
}

/// The attack at the first radius of the tables; at others its step is scaled with the radius.
fn config(lab: &StudyContext) -> RobustConfig {
    let attack = &lab.profile.attack;
    let epsilon = attack.epsilons[0].value();
    let pgd = Pgd {
        steps: attack.steps,
        step_size: 2.5 * epsilon / attack.steps as f64,
        restarts: attack.restarts,
        ..Pgd::default()
    };
    RobustConfig { threat: Threat::linf(epsilon), pgd, batch: BATCH, ..RobustConfig::default() }
}

fn show(example: &tarrl_eval::Example, epsilon: f64) -> Example {
    let byte = |v: f64| (v * 255.0).round().clamp(0.0, 255.0) as u8;
    let change = example.clean.iter().zip(&example.attacked);
    Example {
        epsilon,
        shape: example.shape,
        label: example.label,
        said: example.said,
        said_attacked: example.said_attacked,
        clean: example.clean.iter().map(|&v| byte(v.into())).collect(),
        attacked: example.attacked.iter().map(|&v| byte(v.into())).collect(),
        change: change.map(|(&a, &b)| byte(0.5 + f64::from(b - a) / (2.0 * epsilon))).collect(),
    }
}

impl Output {
    /// Images that survive every attack up to the radius `epsilon`, which is one of the curve's.
    ///
    /// # Panics
    /// Panics if the curve has no such radius.
    #[track_caller]
    pub fn correct_at(&self, epsilon: f64) -> usize {
        let level = self.curve.iter().find(|level| level.epsilon == epsilon);
        level.unwrap_or_else(|| panic!("the curve has no radius {epsilon}")).correct
    }
}
