//! Frontier stage: clean and robust accuracy of heads along a path of regularization.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Threat};
use tarrl_bound::LinearHead;
use tarrl_data::Manifest;
use tarrl_eval::{Lbfgs, RobustConfig, features, head_path, labels, robust_curve};
use tarrl_tensor::{Key as Random, Tensor};

use super::head::BATCH;
use crate::context::StudyContext;
use crate::outcomes::Outcomes;
use crate::profile::Frontier;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "frontier", version: 1 };

/// The file with the heads that are done.
const PROGRESS: &str = "progress.json";

/// The output of a frontier job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FrontierResult {
    /// Places among the test images of those that are attacked, rising.
    pub images: Vec<usize>,
    /// One for each weight of the squared norm, falling.
    pub heads: Vec<HeadLevel>,
}

/// One head of the frontier.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HeadLevel {
    /// The weight of its squared norm.
    pub l2: f64,
    /// All test images, without attack.
    pub clean: Outcomes,
    /// The attacked images, one for each radius of the tables, smallest first.
    pub robust: Vec<Outcomes>,
}

/// A job that fits heads to the encoder of `pretrain` at every weight of `frontier` and attacks each of them.
pub fn job(
    study: &Arc<StudyContext>,
    pretrain: Key,
    manifest: &Manifest,
    frontier: &Frontier,
    name: &str,
    seed: u64,
) -> Job {
    let radii: Vec<f64> = study.profile.attack.epsilons.iter().map(|e| e.value()).collect();
    let threat = Threat::linf(radii[0]);
    let pgd = Pgd { restarts: 1, ..Pgd::usual(&threat, study.profile.attack.steps) };
    let config = RobustConfig { threat, pgd, batch: BATCH, keep: 0, ..RobustConfig::default() };
    let (l2, images, solver) = (frontier.l2.clone(), frontier.images, Lbfgs::default());
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "attack": config, "radii": radii, "l2": l2, "images": images, "solver": solver,
            "subset": study.profile.subset,
        }),
        inputs: vec![pretrain],
        // As for the attack stage: four passes of 14.7 million multiply-adds in 0.8 ms, on two cores.
        seconds: 3.0
            + 8e-4 / 14.7e6 * study.multiply_adds(manifest) * (l2.len() * images * config.pgd.steps) as f64,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = study.images()?;
        let encode = study.encode(context, 0)?;
        let train = features(&encode, &data.train, &study.device, BATCH);
        let test = features(&encode, &data.test, &study.device, BATCH);
        let heads = head_path(&train, &labels(&data.train.labels), data.train.classes.len(), &l2, &solver)?;
        let places = data.test.balanced_indices(
            images.min(data.test.len()) / data.test.classes.len(),
            Random::new(0).fold("frontier"),
        )?;
        let sample = data.test.subset(&places);
        let (pixels, truth) = (study.pixels(&sample), labels(&sample.labels));
        let key = Random::new(context.seed()).fold("frontier");
        let done: Vec<HeadLevel> = context.saved(PROGRESS).unwrap_or_default();
        let mut output = FrontierResult { images: places, heads: done };
        for (i, (head, &l2)) in heads.iter().zip(&l2).enumerate().skip(output.heads.len()) {
            context.progress(i as u64, heads.len() as u64, &format!("l2 = {l2:.1e}"));
            let curve = robust_curve(&encode, head, &pixels, &truth, &radii, &config, key);
            let unbroken = |level: &tarrl_eval::RobustAccuracy| {
                Outcomes(level.samples.iter().map(|sample| !sample.broken).collect())
            };
            output.heads.push(HeadLevel {
                l2,
                clean: clean_outcomes(head, &test, &labels(&data.test.labels)),
                robust: curve.iter().map(unbroken).collect(),
            });
            context.save(PROGRESS, &output.heads)?;
        }
        serde_json::to_value(output).context("the frontier as JSON")
    })
}

/// Which rows of `features (n, d)` the head gives their label, by the rule for ties and values that are not finite by
/// which attacked images are judged.
pub(super) fn clean_outcomes(head: &LinearHead, features: &Tensor, labels: &[u32]) -> Outcomes {
    let threat = Threat { bounds: None, ..Threat::default() };
    let config = RobustConfig { threat, batch: BATCH, keep: 0, ..RobustConfig::default() };
    let clean =
        robust_curve(&Tensor::clone, head, features, labels, &[0.0], &config, Random::new(0)).remove(0);
    Outcomes(clean.samples.iter().map(|sample| !sample.wrong).collect())
}
