//! Retrieval stage: recall at one of test images among training images, clean and attacked without labels.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Threat};
use tarrl_data::Manifest;
use tarrl_eval::{Bank, features, labels, most_turned};
use tarrl_tensor::Key as Random;

use super::head::BATCH;
use super::sample::{self, Counts, seconds};
use crate::context::StudyContext;
use crate::profile::Tasks;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "retrieval", version: 1 };

/// The output of a retrieval job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RetrievalResult {
    /// Queries whose nearest training image has their label.
    pub queries: Counts,
}

/// A job that retrieves training images by the cosine of representations of the encoder of `pretrain`.
pub fn job(
    study: &Arc<StudyContext>,
    pretrain: Key,
    manifest: &Manifest,
    settings: &Tasks,
    name: &str,
    seed: u64,
) -> Job {
    let (radii, images) = (sample::radii(study), settings.images);
    let steps = study.profile.attack.steps;
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"radii": radii, "steps": steps, "images": images, "subset": study.profile.subset}),
        inputs: vec![pretrain],
        seconds: 2.0 + seconds(study, manifest, images * radii.len() * steps),
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = study.images()?;
        let encode = study.encode(context, 0)?;
        let train = features(&encode, &data.train, &study.device, BATCH);
        let train_labels = labels(&data.train.labels);
        let bank = Bank { features: &train, labels: &train_labels };
        let sample = sample::sample(&data.test, images)?;
        let truth = labels(&sample.labels);
        let key = Random::new(context.seed()).fold("retrieval");
        let all: Vec<usize> = (0..truth.len()).collect();
        let mut hits = vec![0; 1 + radii.len()];
        for (i, part) in all.chunks(BATCH).enumerate() {
            let x = study.pixels(&sample.subset(part));
            let truth: Vec<u32> = part.iter().map(|&i| truth[i]).collect();
            for (place, hits) in hits.iter_mut().enumerate() {
                context.progress((i * BATCH) as u64, all.len() as u64, "");
                let queries = match place.checked_sub(1).map(|level| radii[level]) {
                    None => x.clone(),
                    Some(epsilon) => {
                        let threat = Threat::linf(epsilon);
                        let attack = Pgd { include_clean: false, ..Pgd::usual(&threat, steps) };
                        most_turned(&encode, &x, &threat, &attack, key.fold(epsilon.to_bits()).fold(i))
                    }
                };
                let found = bank.recall_at_one(&encode(&queries).detach(), &truth)?;
                *hits += found.iter().filter(|&&hit| hit).count();
            }
        }
        let queries = Counts { n: all.len(), clean: hits[0], robust: hits[1..].to_vec() };
        serde_json::to_value(RetrievalResult { queries }).context("the recall as JSON")
    })
}
