//! Bound stage: the bound and the certificates beside the measured adversarial loss, for many tasks on one encoder.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_certify::{Certificates, Network};
use tarrl_data::Manifest;
use tarrl_eval::{BoundEvaluation, BoundLevel, FittedTask, features, standard_tasks, task_probes};
use tarrl_tensor::Key as Random;

use super::certify::{CertifyResult, hash_pixels, sample};
use super::head::BATCH;
use crate::context::{ENCODER, StudyContext};
use tarrl_jobs::files;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "bound", version: 2 };

/// The file with the radii that are done.
const PROGRESS: &str = "progress.json";

/// The output of a bound job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BoundResult {
    /// One for each radius at which the bound is measured.
    pub levels: Vec<BoundLevel>,
}

/// A job that measures the bound on the encoder of `pretrain`, with the certificates of `certify`.
pub fn job(
    study: &Arc<StudyContext>,
    [pretrain, certify]: [Key; 2],
    manifest: &Manifest,
    name: &str,
    seed: u64,
) -> Job {
    let tasks = standard_tasks(manifest);
    let n = study.profile.bound.samples;
    let radii = study.profile.bound_epsilons();
    let steps = study.profile.attack.steps;
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "tasks": tasks, "images": n, "radii": radii, "steps": steps, "probe": task_probes(),
            "subset": study.profile.subset,
        }),
        inputs: vec![pretrain, certify],
        seconds: 8.0
            + 1e-3 * study.profile.encoder.width.powi(2) * (n * steps * radii.len() * tasks.len()) as f64,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let folder = &context.input(0).folder;
        let encode = study.encode(context, 0)?;
        let sample = sample(&study)?;
        let images = study.pixels(&sample);
        let hash = files::hash(&folder.join(ENCODER))?;
        let train = study.images()?.train;
        let train_features = features(&encode, &train, &study.device, BATCH);
        let key = Random::new(context.seed()).fold("bound");
        let fitted: Vec<FittedTask> = tasks
            .iter()
            .map(|task| task.fit(&train, &sample, &train_features, key))
            .collect::<Result<_, _>>()?;
        let certified: CertifyResult = context.input(1).parse()?;
        let network = Network::trace(&encode, &images.slice(0, 0, 1))?;
        let evaluation =
            BoundEvaluation { encoder: &encode, network: &network, images: &images, tasks: &fitted, steps };
        let mut levels: Vec<BoundLevel> = context.saved(PROGRESS).unwrap_or_default();
        for (i, level) in certified.levels.iter().enumerate().skip(levels.len()) {
            let epsilon = level.displacements.epsilon;
            context.progress(i as u64, radii.len() as u64, &format!("ε = {epsilon}"));
            let path = context.input(1).folder.join(&level.file);
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let certificates =
                Certificates::from_bytes(&bytes).with_context(|| path.display().to_string())?;
            certificates.check(&hash, &hash_pixels(&images)).with_context(|| path.display().to_string())?;
            levels.push(evaluation.measure(&level.displacements, &certificates)?);
            context.save(PROGRESS, &levels)?;
        }
        serde_json::to_value(BoundResult { levels }).context("the bound as JSON")
    })
}
