//! AutoAttack stage: accuracy under AutoAttack at the radii of the tables, through encoder and head together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{AutoAttack, SuiteRun, SuiteState, Threat};
use tarrl_data::Manifest;
use tarrl_eval::{DeviceHead, labels};
use tarrl_tensor::{Array, DType, Key as Random, Tensor};

use super::attack::RobustLevel;
use super::head::Weights;
use crate::context::StudyContext;
use crate::outcomes::Outcomes;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "autoattack", version: 2 };

/// The output of an AutoAttack job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AutoAttackResult {
    /// Test images; 0 if there was no head to attack.
    pub n: usize,
    /// Images that are classified correctly without attack.
    pub clean_correct: usize,
    /// One for each radius of the tables, smallest first.
    pub levels: Vec<RobustLevel>,
    /// The outcomes image by image, one for each radius.
    pub robust: Vec<Outcomes>,
}

/// What the stage reads of the result of a job that fits a head.
#[derive(Deserialize)]
struct Fitted {
    head: Option<Weights>,
}

/// A job that runs the standard version of AutoAttack on `images` test images, balanced over the classes, and the
/// classifier made of the encoder of `pretrain` and the head of `head`, a head job or a matched job; where the latter has
/// no head, there is nothing to attack.
pub fn job(
    study: &Arc<StudyContext>,
    [pretrain, head]: [Key; 2],
    manifest: &Manifest,
    images: usize,
    name: &str,
    seed: u64,
) -> Job {
    let attack = AutoAttack::default();
    let radii: Vec<f64> = study.profile.attack.epsilons.iter().map(|e| e.value()).collect();
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"attack": attack, "radii": radii, "images": images, "subset": study.profile.subset}),
        inputs: vec![pretrain, head],
        // About half of the images go through all of the first radius.
        seconds: 4.0 / 14.7e6 * study.multiply_adds(manifest) * images as f64,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = study.images()?.test;
        let data = data.balanced_subset(
            images.min(data.len()) / data.classes.len(),
            Random::new(0).fold("autoattack"),
        )?;
        let encoder = study.encoder(&context.input(0).folder)?;
        let mut output = AutoAttackResult { n: 0, clean_correct: 0, levels: Vec::new(), robust: Vec::new() };
        let Some(weights) = context.input(1).parse::<Fitted>()?.head else {
            return Ok(serde_json::to_value(output)?);
        };
        let head = weights.head();
        let (pixels, truth) = (study.pixels(&data), labels(&data.labels));
        let head = DeviceHead::new(&head, &study.device, DType::F32);
        let logits = |x: &Tensor| head.forward(&encoder.forward(x));
        let key = Random::new(context.seed()).fold("autoattack");
        let n = truth.len();
        output.n = n;
        let stored: Option<Stored> = context.saved(PROGRESS).filter(|stored: &Stored| stored.is_of(n));
        let Stored { output: done, mut alive, passes: [mut forward, mut backward], mut suite } =
            stored.unwrap_or_else(|| Stored::new(&output));
        output = done;
        for (number, &epsilon) in radii.iter().enumerate().skip(output.levels.len()) {
            let rows: Vec<u32> = alive.iter().map(|&i| i as u32).collect();
            let x = pixels.gather(0, &Array::new(&study.device, [rows.len()], &rows));
            let y: Vec<u32> = alive.iter().map(|&i| truth[i]).collect();
            let keys: Vec<Random> = alive.iter().map(|&i| key.fold(i).fold(epsilon.to_bits())).collect();
            let threat = Threat::linf(epsilon);
            let (parts, ball) = (attack.parts(threat.norm), threat.around(&x));
            let resumed = suite.take().and_then(|state| {
                SuiteRun::resume(ball.clone(), &y, &keys, parts.clone(), attack.run, weights.k, &state).ok()
            });
            let mut run = resumed.unwrap_or_else(|| SuiteRun::new(ball, &y, &keys, parts, attack.run));
            let (mut rounds, mut saved) = (0u64, Instant::now());
            loop {
                let stop = context.stop().reason();
                if stop.is_some() || saved.elapsed() >= BETWEEN_SAVES {
                    let passes = [forward, backward];
                    let (output, alive) = (output.clone(), alive.clone());
                    context.save(PROGRESS, &Stored { output, alive, passes, suite: Some(run.state()) })?;
                    saved = Instant::now();
                }
                if let Some(stop) = stop {
                    return Err(stop.into());
                }
                if rounds.is_multiple_of(16) {
                    let done = (number * n + n - alive.len() + run.progress().finished) as u64;
                    context.progress(done, (radii.len() * n) as u64, &format!("ε = {epsilon}"));
                }
                if !run.round(&|u, _| logits(u)) {
                    break;
                }
                rounds += 1;
            }
            let found = run.finish();
            if number == 0 {
                let clean = |origin: &Option<tarrl_attacks::Origin>| {
                    origin.as_ref().is_some_and(|origin| origin.attack == "clean")
                };
                output.clean_correct = n - found.origin.iter().filter(|origin| clean(origin)).count();
            }
            forward += found.forward.iter().map(|&p| f64::from(p)).sum::<f64>() / n as f64;
            backward += found.backward.iter().map(|&p| f64::from(p)).sum::<f64>() / n as f64;
            alive =
                alive.iter().zip(&found.success).filter(|(_, broken)| !**broken).map(|(&i, _)| i).collect();
            output.levels.push(RobustLevel { epsilon, correct: alive.len(), forward, backward });
            output.robust.push(Outcomes((0..n).map(|i| alive.binary_search(&i).is_ok()).collect()));
        }
        serde_json::to_value(output).context("the accuracies as JSON")
    })
}

/// The file with the progress of the attack.
const PROGRESS: &str = "progress.json";

/// Time between two states of a job that nothing interrupts.
const BETWEEN_SAVES: Duration = Duration::from_secs(60);

/// The progress of a job: the radii that are done, and the state of the next one.
#[derive(Deserialize, Serialize)]
struct Stored {
    output: AutoAttackResult,
    alive: Vec<usize>,
    passes: [f64; 2],
    suite: Option<SuiteState>,
}

impl Stored {
    /// Whether it is of `n` images.
    fn is_of(&self, n: usize) -> bool {
        let rising = self.alive.is_sorted_by(|a, b| a < b);
        self.output.n == n && rising && self.alive.last().is_none_or(|&last| last < n)
    }

    /// Nothing done.
    fn new(output: &AutoAttackResult) -> Self {
        Stored { output: output.clone(), alive: (0..output.n).collect(), passes: [0.0; 2], suite: None }
    }
}

impl AutoAttackResult {
    /// Images that survive every attack up to the radius `epsilon`, which is one of the levels'.
    ///
    /// # Panics
    /// Panics if there is no such radius.
    #[track_caller]
    pub fn correct_at(&self, epsilon: f64) -> usize {
        let level = self.levels.iter().find(|level| level.epsilon == epsilon);
        level.unwrap_or_else(|| panic!("AutoAttack was not run at radius {epsilon}")).correct
    }
}
