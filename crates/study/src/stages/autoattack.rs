//! Accuracy under AutoAttack at the radii of the tables, through encoder and head together.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{AttackSpec, AutoAttack, Ball, Progress, RunConfig, SuiteOutcome, SuiteRun, Threat};
use tarrl_data::Dataset;
use tarrl_encoders::Arch;
use tarrl_tensor::{Array, Key as Random, Tensor};

use super::attack::Level;
use super::{StudyContext, head, labels, pretrain};
use crate::jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "autoattack", version: 1 };

/// What an AutoAttack job gives.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Output {
    /// Test images.
    pub n: usize,
    /// Images that are classified correctly without attack.
    pub clean_correct: usize,
    /// One for each radius of the tables, smallest first.
    pub levels: Vec<Level>,
}

/// A job that runs the standard version of AutoAttack on `images` test images, balanced over the classes, and the
/// classifier made of the encoder of `pretrain` and the head of `head`.
pub fn job(lab: &Arc<StudyContext>, [pretrain, head]: [Key; 2], images: usize, name: &str, seed: u64) -> Job {
    let attack = AutoAttack::default();
    let radii: Vec<f64> = lab.profile.attack.epsilons.iter().map(|e| e.value()).collect();
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"attack": attack, "radii": radii, "images": images, "subset": lab.profile.subset}),
        inputs: vec![pretrain, head],
        // About half of the images go through all of the first radius.
        seconds: 4.0 * pretrain::macs(lab.profile.encoder.arch) / pretrain::macs(Arch::ConvSmall)
            * lab.profile.encoder.width.powi(2)
            * images as f64,
    };
    let lab = lab.clone();
    Job::new(spec, move |context| {
        let data = lab.images()?.test;
        let data = data.balanced_subset(
            images.min(data.len()) / data.classes.len(),
            Random::new(0).fold("autoattack"),
        )?;
        let encoder = lab.encoder(&context.input(0).folder)?;
        let head = head::parse(context.input(1))?.head.head();
        let (pixels, truth) = (lab.pixels(&data), labels(&data.labels));
        let logits = head::Classifier::new(&head, &lab.device);
        let logits = |x: &Tensor| logits.logits(&encoder.forward(x));
        let key = Random::new(context.seed()).fold("autoattack");
        let n = truth.len();
        let mut output = Output { n, clean_correct: 0, levels: Vec::new() };
        let mut alive: Vec<usize> = (0..n).collect();
        let (mut forward, mut backward) = (0.0, 0.0);
        for (number, &epsilon) in radii.iter().enumerate() {
            let rows: Vec<u32> = alive.iter().map(|&i| i as u32).collect();
            let x = pixels.gather(0, &Array::new(&lab.device, [rows.len()], &rows));
            let y: Vec<u32> = alive.iter().map(|&i| truth[i]).collect();
            let keys: Vec<Random> = alive.iter().map(|&i| key.fold(i).fold(epsilon.to_bits())).collect();
            let threat = Threat::linf(epsilon);
            let setup = Setup { parts: attack.parts(threat.norm), config: attack.run };
            let found = run(&setup, threat.around(&x), &y, &keys, &logits, &mut |progress| {
                let done = (number * n + n - alive.len() + progress.finished) as u64;
                context.progress(done, (radii.len() * n) as u64, &format!("ε = {epsilon}"));
            });
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
            output.levels.push(Level { epsilon, correct: alive.len(), forward, backward });
        }
        serde_json::to_value(output).context("the accuracies as JSON")
    })
}

/// Which attacks run, and how.
pub struct Setup {
    /// The attacks in their order.
    pub parts: Vec<AttackSpec>,
    /// How they run.
    pub config: RunConfig,
}

/// Runs a suite to its end and says after each round how far it is.
pub fn run(
    setup: &Setup,
    ball: Ball,
    labels: &[u32],
    keys: &[Random],
    logits: &dyn Fn(&Tensor) -> Tensor,
    progress: &mut dyn FnMut(&Progress),
) -> SuiteOutcome {
    let mut run = SuiteRun::new(ball, labels, keys, setup.parts.clone(), setup.config);
    let mut rounds = 0u64;
    while run.round(&|u, _| logits(u)) {
        rounds += 1;
        if rounds.is_multiple_of(16) {
            progress(&run.progress());
        }
    }
    progress(&run.progress());
    run.finish()
}

/// Images as pixels in \[0, 1\]: `(n, h, w, c)`.
pub fn pixels(data: &Dataset, device: &tarrl_tensor::Device) -> Tensor {
    let all: Vec<usize> = (0..data.len()).collect();
    Array::from_ndarray(device, &data.batch(&all)).into()
}

impl Output {
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
