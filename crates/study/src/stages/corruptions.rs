//! Corruptions stage: accuracy of the head on corrupted test images.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_eval::{Corruption, SEVERITIES, labels};
use tarrl_tensor::{Key as Random, Tensor};

use super::frontier::clean_outcomes;
use super::head::{BATCH, HeadResult};
use crate::context::StudyContext;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "corruptions", version: 1 };

/// The output of a corruptions job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CorruptionsResult {
    /// Test images.
    pub n: usize,
    /// Correct without corruption.
    pub clean: usize,
    /// Correct under each kind, in the order of [`Corruption::ALL`], at each severity.
    pub correct: Vec<Vec<usize>>,
}

/// A job that corrupts the test images in every way and judges them by the encoder of `pretrain` and the head of `head`.
pub fn job(study: &Arc<StudyContext>, [pretrain, head]: [Key; 2], name: &str) -> Job {
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        // The same images for every seed, as for every encoder.
        seed: 0,
        config: json!({"kinds": Corruption::ALL, "severities": SEVERITIES, "subset": study.profile.subset}),
        inputs: vec![pretrain, head],
        seconds: 8.0,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = study.images()?.test;
        let encode = study.encode(context, 0)?;
        let head = context.input(1).parse::<HeadResult>()?.head.head();
        let (pixels, truth) = (study.pixels(&data), labels(&data.labels));
        let n = truth.len();
        let correct = |x: &Tensor| -> usize {
            let of = |start: usize| {
                let len = BATCH.min(n - start);
                let z = encode(&x.slice(0, start, len)).detach();
                clean_outcomes(&head, &z, &truth[start..start + len]).correct()
            };
            (0..n).step_by(BATCH).map(of).sum()
        };
        let key = Random::new(context.seed()).fold("corruptions");
        let mut output = CorruptionsResult { n, clean: correct(&pixels), correct: Vec::new() };
        for (i, kind) in Corruption::ALL.into_iter().enumerate() {
            context.progress(i as u64, Corruption::ALL.len() as u64, kind.name());
            let at = |severity| correct(&kind.apply(&pixels, severity, key.fold(kind.name()).fold(severity)));
            output.correct.push((1..=SEVERITIES).map(at).collect());
        }
        serde_json::to_value(output).context("the accuracies as JSON")
    })
}
