//! Few-labels stage: heads that are fitted to small balanced draws of the training labels.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_bound::LinearHead;
use tarrl_data::Manifest;
use tarrl_eval::{features, few_label_heads, labels};
use tarrl_tensor::Key as Random;

use super::head::BATCH;
use super::sample::{self, Counts, count, outcomes, seconds};
use crate::context::StudyContext;
use crate::profile::Tasks;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "few-labels", version: 1 };

/// The weight of the squared norm of heads, the same for all encoders: that of the standard tasks.
const L2: f64 = 0.1;

/// The output of a few-labels job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FewLabelsResult {
    /// One for each share of the labels, rising: what is correct with each draw.
    pub shares: Vec<Vec<Counts>>,
}

/// A job that fits heads to draws of the labels, on the encoder of `pretrain`, and attacks each of them.
pub fn job(
    study: &Arc<StudyContext>,
    pretrain: Key,
    manifest: &Manifest,
    settings: &Tasks,
    name: &str,
    seed: u64,
) -> Job {
    let (radii, images) = (sample::radii(study), settings.images);
    let (shares, draws) = (settings.shares.clone(), settings.draws);
    let attacked = shares.len() * draws * images * radii.len() * study.profile.attack.steps;
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "shares": shares, "draws": draws, "l2": L2, "attack": sample::attack(study), "radii": radii,
            "images": images, "subset": study.profile.subset,
        }),
        inputs: vec![pretrain],
        seconds: 1.0 + seconds(study, manifest, attacked),
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = study.images()?;
        let encode = study.encode(context, 0)?;
        let train = features(&encode, &data.train, &study.device, BATCH);
        let train_labels = labels(&data.train.labels);
        let sample = sample::sample(&data.test, images)?;
        let (pixels, truth) = (study.pixels(&sample), labels(&sample.labels));
        let key = Random::new(context.seed()).fold("few labels");
        let classes = data.train.classes.len();
        let mut output = FewLabelsResult { shares: Vec::new() };
        for (i, &share) in shares.iter().enumerate() {
            context.progress(i as u64, shares.len() as u64, &format!("{} % of the labels", 100.0 * share));
            let key = key.fold(share.to_bits());
            let heads = few_label_heads(&train, &train_labels, classes, share, draws, L2, key)?;
            let attacked = |head: &LinearHead| {
                count(&outcomes(&study, &encode, head, &pixels, &truth, key.fold("attack")), |_| true)
            };
            output.shares.push(heads.iter().map(attacked).collect());
        }
        serde_json::to_value(output).context("the accuracies as JSON")
    })
}
