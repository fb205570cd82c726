//! Matched stage: the head whose clean accuracy is the one that methods are compared at.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_eval::{Lbfgs, features, head_path, labels, matched_l2};

use super::frontier::{FrontierResult, clean_outcomes};
use super::head::{BATCH, Weights};
use crate::context::StudyContext;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "matched", version: 1 };

/// The output of a matched job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MatchedResult {
    /// The head; none if no head of the frontier reaches the clean accuracy.
    pub head: Option<Weights>,
    /// The weight of its squared norm.
    pub l2: Option<f64>,
    /// Test images that it classifies correctly.
    pub clean_correct: usize,
    /// Test images.
    pub n: usize,
}

/// A job that fits the head to the encoder of `pretrain` at which the frontier of `frontier` reaches the clean accuracy
/// `clean`: the strongest regularization that does, between the heads of the frontier and linear in the logarithm of its
/// weight.
pub fn job(
    study: &Arc<StudyContext>,
    [pretrain, frontier]: [Key; 2],
    clean: f64,
    name: &str,
    seed: u64,
) -> Job {
    let solver = Lbfgs::default();
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"clean": clean, "solver": solver, "subset": study.profile.subset}),
        inputs: vec![pretrain, frontier],
        seconds: 2.0,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = study.images()?;
        let frontier: FrontierResult = context.input(1).parse()?;
        let n = data.test.len();
        let path: Vec<(f64, f64)> = frontier.heads.iter().map(|h| (h.l2, h.clean.accuracy())).collect();
        let Some(l2) = matched_l2(&path, clean) else {
            context.log(&format!("no head of the frontier has a clean accuracy of {clean}"));
            return Ok(serde_json::to_value(MatchedResult { head: None, l2: None, clean_correct: 0, n })?);
        };
        let encode = study.encode(context, 0)?;
        let train = features(&encode, &data.train, &study.device, BATCH);
        let test = features(&encode, &data.test, &study.device, BATCH);
        let classes = data.train.classes.len();
        let head = head_path(&train, &labels(&data.train.labels), classes, &[l2], &solver)?.remove(0);
        let clean = clean_outcomes(&head, &test, &labels(&data.test.labels));
        context.log(&format!("l2 {l2:.1e}, clean accuracy {:.4}", clean.accuracy()));
        let output =
            MatchedResult { head: Some(Weights::of(&head)), l2: Some(l2), clean_correct: clean.correct(), n };
        serde_json::to_value(output).context("the matched head as JSON")
    })
}
