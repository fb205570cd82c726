//! Adversarial linear fitting stage: a linear head that is trained on attacked images, on a frozen encoder.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Threat};
use tarrl_data::Manifest;
use tarrl_eval::{AdversarialProbeConfig, adversarial_probe, labels};
use tarrl_tensor::Key as Random;

use super::head::Weights;
use super::sample::seconds;
use crate::context::StudyContext;
use crate::profile::AdversarialFit;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "alf", version: 1 };

/// The output of the job, in the form in which an attack job reads a head.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct AlfResult {
    head: Weights,
}

/// A job that trains a head under attack, on the encoder of `pretrain`.
pub fn job(
    study: &Arc<StudyContext>,
    pretrain: Key,
    manifest: &Manifest,
    settings: &AdversarialFit,
    name: &str,
    seed: u64,
) -> Job {
    let threat = Threat::linf(settings.epsilon.value());
    let attack = Pgd { include_clean: false, ..Pgd::usual(&threat, settings.steps) };
    let batch = study.profile.pretrain.batch;
    let config =
        AdversarialProbeConfig { threat, attack, epochs: settings.epochs, batch, ..Default::default() };
    let images = study.profile.subset.train.unwrap_or(manifest.train);
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"probe": config, "subset": study.profile.subset}),
        inputs: vec![pretrain],
        seconds: 1.0 + seconds(study, manifest, images * settings.epochs * settings.steps),
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = study.images()?.train;
        let encode = study.encode(context, 0)?;
        let key = Random::new(context.seed()).fold("alf");
        let mut progress = |step: usize, steps: usize| context.progress(step as u64, steps as u64, "");
        let (pixels, truth) = (study.pixels(&data), labels(&data.labels));
        let head =
            adversarial_probe(&encode, &pixels, &truth, data.classes.len(), &config, key, &mut progress)?;
        serde_json::to_value(AlfResult { head: Weights::of(&head) }).context("the head as JSON")
    })
}
