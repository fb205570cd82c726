//! Best-known stage: stronger single attacks on the images that AutoAttack leaves, so that the minimum over all attacks is
//! known with its source.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{
    Apgd, Gama, LabelLoss, Limits, Norm, Problem, TargetLoss, TargetSuccess, Threat, apgd, classify,
    classify_towards, gama_pgd, malt_targets,
};
use tarrl_data::Manifest;
use tarrl_eval::{DeviceHead, labels};
use tarrl_tensor::{Array, DType, Key as Random, Tensor};

use super::autoattack::AutoAttackResult;
use super::head::Weights;
use super::sample::{radii, seconds};
use crate::context::StudyContext;
use crate::outcomes::Outcomes;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "best-known", version: 1 };

/// The attacks, in their order: APGD on the loss of PMA, GAMA-PGD, APGD towards the targets of MALT.
pub const ATTACKS: [&str; 3] = ["APGD on PMA's loss", "GAMA-PGD", "APGD towards MALT's targets"];

/// Targets of MALT that are aimed at.
const TARGETS: usize = 3;

/// The output of a best-known job.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct BestKnownResult {
    /// Test images; 0 if there was no head to attack.
    pub n: usize,
    /// One for each radius of the tables, smallest first: the images that survive AutoAttack and all of [`ATTACKS`].
    pub robust: Vec<Outcomes>,
    /// One for each radius: how many of AutoAttack's survivors each of [`ATTACKS`] broke first.
    pub broken: Vec<[usize; 3]>,
}

/// What the stage reads of the result of a matched job.
#[derive(Deserialize)]
struct Fitted {
    head: Option<Weights>,
}

/// A job that attacks what `suite`, the AutoAttack job of the head of `matched` on the encoder of `pretrain`, left of
/// `images` test images.
pub fn job(
    study: &Arc<StudyContext>,
    [pretrain, matched, suite]: [Key; 3],
    manifest: &Manifest,
    images: usize,
    name: &str,
    seed: u64,
) -> Job {
    let (radii, gama, steps) = (radii(study), Gama::default(), Apgd::default());
    let passes = images * radii.len() * (gama.steps + (1 + TARGETS) * steps.steps) / 2;
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "radii": radii, "images": images, "gama": gama, "apgd": steps, "targets": TARGETS,
            "subset": study.profile.subset,
        }),
        inputs: vec![pretrain, matched, suite],
        seconds: seconds(study, manifest, passes),
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let Some(weights) = context.input(1).parse::<Fitted>()?.head else {
            return Ok(serde_json::to_value(BestKnownResult::default())?);
        };
        let data = study.images()?.test;
        let per_class = images.min(data.len()) / data.classes.len();
        let data = data.balanced_subset(per_class, Random::new(0).fold("autoattack"))?;
        let encode = study.encode(context, 0)?;
        let head = DeviceHead::new(&weights.head(), &study.device, DType::F32);
        let logits = |x: &Tensor| head.forward(&encode(x));
        let (pixels, truth) = (study.pixels(&data), labels(&data.labels));
        let survivors: AutoAttackResult = context.input(2).parse()?;
        let key = Random::new(context.seed()).fold("best known");
        let n = truth.len();
        let mut output = BestKnownResult { n, ..BestKnownResult::default() };
        let mut alive = vec![true; n];
        for (level, &epsilon) in radii.iter().enumerate() {
            // A point that breaks an image in a ball breaks it in every larger one.
            alive.iter_mut().zip(&survivors.robust[level].0).for_each(|(alive, survives)| *alive &= survives);
            let mut broken = [0; 3];
            for (number, count) in broken.iter_mut().enumerate() {
                context.progress((level * 3 + number) as u64, (radii.len() * 3) as u64, ATTACKS[number]);
                let rows: Vec<usize> = (0..n).filter(|&i| alive[i]).collect();
                if rows.is_empty() {
                    continue;
                }
                let index: Vec<u32> = rows.iter().map(|&i| i as u32).collect();
                let sample = Sample {
                    x: pixels.gather(0, &Array::new(&study.device, [index.len()], &index)),
                    labels: rows.iter().map(|&i| truth[i]).collect(),
                    keys: rows.iter().map(|&i| key.fold(number).fold(i).fold(epsilon.to_bits())).collect(),
                    threat: Threat::linf(epsilon),
                };
                for (&row, success) in rows.iter().zip(sample.broken_by(number, &logits, &gama, &steps)) {
                    alive[row] &= !success;
                    *count += usize::from(success);
                }
            }
            output.broken.push(broken);
            output.robust.push(Outcomes(alive.clone()));
        }
        serde_json::to_value(output).context("the accuracies as JSON")
    })
}

/// Images under attack.
struct Sample {
    x: Tensor,
    labels: Vec<u32>,
    keys: Vec<Random>,
    threat: Threat,
}

impl Sample {
    /// Which images the attack of a number in [`ATTACKS`] breaks.
    fn broken_by(
        &self,
        number: usize,
        logits: &dyn Fn(&Tensor) -> Tensor,
        gama: &Gama,
        steps: &Apgd,
    ) -> Vec<bool> {
        let Sample { x, labels, keys, threat } = self;
        let limits = Limits { early_stop: true, ..Limits::default() };
        let success = |found: tarrl_attacks::Outcome| tarrl_attacks::ClassifierOutcome::from(found).success;
        match number {
            0 => {
                let evaluate = classify(logits, labels, LabelLoss::ProbabilityMargin);
                success(apgd(&Problem::new(threat.around(x), &evaluate, keys, limits), steps))
            }
            1 => gama_pgd(logits, x, labels, threat, gama, keys).success,
            _ => {
                let targets = malt_targets(logits, x, labels, Norm::Linf, TARGETS);
                let mut broken = vec![false; labels.len()];
                for place in 0..targets[0].len() {
                    let aimed: Vec<u32> = targets.iter().map(|targets| targets[place]).collect();
                    let evaluate =
                        classify_towards(logits, labels, &aimed, TargetLoss::Dlr, TargetSuccess::AnyMistake);
                    let keys: Vec<Random> = keys.iter().map(|key| key.fold(place)).collect();
                    let found = apgd(&Problem::new(threat.around(x), &evaluate, &keys, limits), steps);
                    broken.iter_mut().zip(success(found)).for_each(|(broken, now)| *broken |= now);
                }
                broken
            }
        }
    }
}
