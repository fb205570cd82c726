//! Universal stage: one perturbation for all images at every radius of the curve, made on training images without labels and
//! judged by the head on test images.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::Threat;
use tarrl_data::Manifest;
use tarrl_eval::{labels, perturbed, universal_perturbation};
use tarrl_tensor::{Key as Random, Tensor};

use super::attack;
use super::frontier::clean_outcomes;
use super::head::{BATCH, HeadResult};
use super::sample::seconds;
use crate::context::StudyContext;
use crate::profile::Tasks;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "universal", version: 1 };

/// The output of a universal job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UniversalResult {
    /// Test images.
    pub n: usize,
    /// Radius and test images that stay correct, smallest first, from radius 0.
    pub levels: Vec<(f64, usize)>,
}

/// A job that perturbs the test images by what moves the training images of the encoder of `pretrain` the farthest, and
/// judges them by the head of `head`.
pub fn job(
    study: &Arc<StudyContext>,
    [pretrain, head]: [Key; 2],
    manifest: &Manifest,
    settings: &Tasks,
    name: &str,
    seed: u64,
) -> Job {
    let (radii, config) = (attack::radii(study).rising(), settings.universal);
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"radii": radii, "universal": config, "subset": study.profile.subset}),
        inputs: vec![pretrain, head],
        seconds: 2.0 + seconds(study, manifest, radii.len() * config.restarts * config.steps * config.batch),
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = study.images()?;
        let encode = study.encode(context, 0)?;
        let head = context.input(1).parse::<HeadResult>()?.head.head();
        let (train, test) = (study.pixels(&data.train), study.pixels(&data.test));
        let truth = labels(&data.test.labels);
        let n = truth.len();
        let correct = |shown: &dyn Fn(&Tensor) -> Tensor| -> usize {
            let of = |start: usize| {
                let len = BATCH.min(n - start);
                let z = encode(&shown(&test.slice(0, start, len))).detach();
                clean_outcomes(&head, &z, &truth[start..start + len]).correct()
            };
            (0..n).step_by(BATCH).map(of).sum()
        };
        let key = Random::new(context.seed()).fold("universal");
        let mut levels = vec![(0.0, correct(&Tensor::clone))];
        for (i, &epsilon) in radii.iter().enumerate() {
            context.progress(i as u64, radii.len() as u64, &format!("ε = {epsilon}"));
            let threat = Threat::linf(epsilon);
            let delta =
                universal_perturbation(&encode, &train, &threat, &config, key.fold(epsilon.to_bits()));
            levels.push((epsilon, correct(&|x| perturbed(x, &delta, &threat))));
        }
        serde_json::to_value(UniversalResult { n, levels }).context("the accuracies as JSON")
    })
}
