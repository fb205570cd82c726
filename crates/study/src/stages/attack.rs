//! Attack stage: accuracy under PGD at every radius of the study, through encoder and head together.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Threat};
use tarrl_data::Manifest;
use tarrl_eval::{CurveRadii, RobustAccuracy, RobustConfig, continue_robust_curve, labels};
use tarrl_tensor::Key as Random;

use super::head::{BATCH, Weights};
use crate::context::StudyContext;
use crate::pixels::Pixels;
use tarrl_jobs::files::write_atomic;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "attack", version: 2 };

/// The file with example images.
pub const EXAMPLES: &str = "examples.json";

/// The file with the images that are done.
const PROGRESS: &str = "progress.json";

/// The output of an attack job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AttackResult {
    /// Test images.
    pub n: usize,
    /// Images that are classified correctly without attack.
    pub clean_correct: usize,
    /// One for each radius, smallest first.
    pub curve: Vec<RobustLevel>,
}

/// Robust accuracy at one radius, and what it cost.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RobustLevel {
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
    #[serde(rename = "said")]
    pub prediction: u32,
    /// The prediction for the attacked one.
    #[serde(rename = "said_attacked")]
    pub attacked_prediction: u32,
    /// Clean pixels.
    pub clean: Vec<u8>,
    /// Attacked pixels.
    pub attacked: Vec<u8>,
    /// Their difference, enlarged so that ±ε fills the range; gray is none.
    pub change: Vec<u8>,
}

/// What the stage reads of the result of a job that fits a head.
#[derive(Deserialize)]
struct Fitted {
    head: Weights,
}

/// A job that attacks the classifier made of the encoder of `pretrain` and the head of `head`.
pub fn job(
    study: &Arc<StudyContext>,
    [pretrain, head]: [Key; 2],
    manifest: &Manifest,
    name: &str,
    seed: u64,
) -> Job {
    let radii = radii(study);
    let config = config(study);
    let test = study.profile.subset.test.unwrap_or(10_000);
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"attack": config, "radii": radii.rising(), "tables": radii.full, "subset": study.profile.subset}),
        inputs: vec![pretrain, head],
        // Four passes of 14.7 million multiply-adds in 0.8 ms, on two cores.
        seconds: 8e-4 / 14.7e6
            * study.multiply_adds(manifest)
            * (test * config.pgd.steps * config.pgd.restarts) as f64,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let images = study.images()?;
        let encode = study.encode(context, 0)?;
        let head = context.input(1).parse::<Fitted>()?.head.head();
        let key = Random::new(context.seed()).fold("attack");
        let (pixels, labels) = (study.pixels(&images.test), labels(&images.test.labels));
        let from: Vec<RobustAccuracy> = context.saved(PROGRESS).unwrap_or_default();
        let from = if fits(&from, &radii.rising(), labels.len()) { from } else { Vec::new() };
        let mut saved = Ok(());
        let mut go_on = |curve: &[RobustAccuracy]| {
            context.progress(curve[0].samples.len() as u64, labels.len() as u64, "");
            saved = context.save(PROGRESS, &curve);
            saved.is_ok()
        };
        let curve =
            continue_robust_curve(&encode, &head, &pixels, &labels, &radii, &config, key, from, &mut go_on);
        saved?;
        let curve = curve.context("the attack ended early")?;

        let examples: Vec<Example> = curve
            .iter()
            .filter(|level| study.profile.attack.epsilons.iter().any(|e| e.value() == level.epsilon))
            .flat_map(|level| level.examples.iter().map(|example| show(example, level.epsilon)))
            .collect();
        let path = context.output(EXAMPLES);
        write_atomic(&path, &serde_json::to_vec(&examples)?)
            .with_context(|| format!("cannot write {}", path.display()))?;

        let n = labels.len();
        let mean =
            |passes: &dyn Fn(usize) -> u32| (0..n).map(|i| f64::from(passes(i))).sum::<f64>() / n as f64;
        let levels = curve.iter().map(|level| RobustLevel {
            epsilon: level.epsilon,
            correct: level.robust_correct(),
            forward: mean(&|i| level.samples[i].forward),
            backward: mean(&|i| level.samples[i].backward),
        });
        let output = AttackResult { n, clean_correct: curve[0].clean_correct(), curve: levels.collect() };
        serde_json::to_value(output).context("the curve as JSON")
    })
}

/// The radii of the tables, at which every survivor is attacked, and those that fill the curve.
pub fn radii(study: &StudyContext) -> CurveRadii {
    let attack = &study.profile.attack;
    let values = |radii: &[Pixels]| radii.iter().map(|e| e.value()).collect();
    CurveRadii { full: values(&attack.epsilons), between: values(&attack.curve) }
}

/// The attack at the first radius of the tables; at others its step is scaled with the radius.
fn config(study: &StudyContext) -> RobustConfig {
    let attack = &study.profile.attack;
    let threat = Threat::linf(attack.epsilons[0].value());
    let pgd = Pgd { restarts: attack.restarts, ..Pgd::usual(&threat, attack.steps) };
    RobustConfig { threat, pgd, batch: BATCH, ..RobustConfig::default() }
}

/// Whether a stored curve is one of these radii that is not done.
fn fits(curve: &[RobustAccuracy], radii: &[f64], images: usize) -> bool {
    let done = curve.first().map_or(0, |level| level.samples.len());
    curve.iter().map(|level| level.epsilon).eq(radii.iter().copied())
        && curve.iter().all(|level| level.samples.len() == done)
        && done < images
}

fn show(example: &tarrl_eval::Example, epsilon: f64) -> Example {
    let byte = |v: f64| (v * 255.0).round().clamp(0.0, 255.0) as u8;
    let change = example.clean.iter().zip(&example.attacked);
    Example {
        epsilon,
        shape: example.shape,
        label: example.label,
        prediction: example.prediction,
        attacked_prediction: example.attacked_prediction,
        clean: example.clean.iter().map(|&v| byte(v.into())).collect(),
        attacked: example.attacked.iter().map(|&v| byte(v.into())).collect(),
        change: change.map(|(&a, &b)| byte(0.5 + f64::from(b - a) / (2.0 * epsilon))).collect(),
    }
}

impl AttackResult {
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
