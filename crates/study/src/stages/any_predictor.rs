//! Any-predictor stage: predictors of four kinds on random representations, attacked and bounded by certificates.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_certify::Network;
use tarrl_data::Manifest;
use tarrl_eval::{
    BoundError, ForestConfig, MlpConfig, Predictor, PredictorErrors, PredictorEvaluation, PredictorKind,
    ProbeConfig, RepresentationNoise, features, labels, median,
};
use tarrl_tensor::Key as Random;

use super::certify::{self, CertifyResult};
use super::head::BATCH;
use super::sample::seconds;
use crate::context::StudyContext;
use crate::profile::Tasks;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "any-predictor", version: 1 };

/// The output of an any-predictor job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AnyPredictorResult {
    /// Images, all of whose representations are drawn and attacked.
    pub images: usize,
    /// σ, in the units of the representation.
    pub sigma: f64,
    /// For each radius the medians over the images of ρ: how far attacks moved representations, and how far at most by their
    /// certificates, in units of σ.
    pub rho: Vec<[f64; 2]>,
    /// What was counted and bounded.
    pub predictors: Vec<PredictorErrors>,
}

/// A job that fits predictors to draws of the representations of the encoder of `pretrain`, and attacks and bounds them at the
/// images and radii that `certify` has certificates for.
pub fn job(
    study: &Arc<StudyContext>,
    [pretrain, certify]: [Key; 2],
    manifest: &Manifest,
    settings: &Tasks,
    name: &str,
    seed: u64,
) -> Job {
    let (share, draws, steps) = (settings.noise, settings.predictors, study.profile.attack.steps);
    let (radii, images) = (study.profile.bound_epsilons(), study.profile.bound.samples);
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "noise": share, "draws": draws, "radii": radii, "images": images, "steps": steps,
            "probe": ProbeConfig::default(), "mlp": MlpConfig::default(), "forest": ForestConfig::default(),
            "subset": study.profile.subset,
        }),
        inputs: vec![pretrain, certify],
        // Fitting, then neighbors of every draw among 2,000.
        seconds: 15.0
            + seconds(study, manifest, 2 * images * radii.len() * steps)
            + 1e-4 * (images * (draws.draws + 6 * draws.pilot) * (1 + radii.len())) as f64,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let train = study.images()?.train;
        let encode = study.encode(context, 0)?;
        let key = Random::new(context.seed()).fold("any predictor");
        let train_features = features(&encode, &train, &study.device, BATCH);
        let noise = RepresentationNoise::relative(&train_features, share).ok_or(BoundError::Collapsed)?;
        // One draw of each training image.
        let keys: Vec<Random> = (0..train.len()).map(|i| key.fold("train").fold(i)).collect();
        let (drawn, train_labels) = (noise.draw(&train_features, 1, &keys), labels(&train.labels));
        let mut predictors = Vec::new();
        for kind in PredictorKind::ALL {
            context.progress(predictors.len() as u64, PredictorKind::ALL.len() as u64, kind.name());
            let key = key.fold("fit").fold(kind.name());
            predictors.push(Predictor::fit(kind, &drawn, &train_labels, train.classes.len(), key)?);
            context.stop().unwind();
        }
        let sample = certify::sample(&study)?;
        let (images, truth) = (study.pixels(&sample), labels(&sample.labels));
        let certified: CertifyResult = context.input(1).parse()?;
        let network = Network::trace(&encode, &images.slice(0, 0, 1))?;
        let evaluation = PredictorEvaluation {
            encoder: &encode,
            network: &network,
            images: &images,
            labels: &truth,
            predictors: &predictors,
            noise,
            config: draws,
            steps,
            key: key.fold("test"),
        };
        let mut run = evaluation.begin()?;
        let mut rho = Vec::new();
        for (i, level) in certified.levels.iter().enumerate() {
            let moved = &level.displacements;
            context.progress(i as u64, certified.levels.len() as u64, &format!("ε = {}", moved.epsilon));
            run.measure(moved)?;
            rho.push([
                median(run.reached().into_iter()),
                median(moved.certified.iter().map(|far| far / noise.sigma)),
            ]);
        }
        let output =
            AnyPredictorResult { images: truth.len(), sigma: noise.sigma, rho, predictors: run.finish() };
        serde_json::to_value(output).context("the errors as JSON")
    })
}
