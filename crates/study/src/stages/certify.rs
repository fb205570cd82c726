//! Certify stage: certificates of an encoder, made once, before any task is known.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Threat};
use tarrl_certify::{Certificates, CertifyConfig, Cost, Network, Provenance, certify_until};
use tarrl_data::Dataset;
use tarrl_encoders::Arch;
use tarrl_eval::{Displacements, displacement_attack};
use tarrl_tensor::{Key as Random, Tensor};

use crate::context::{ENCODER, StudyContext};
use tarrl_jobs::files;
use tarrl_jobs::{Job, Key, Spec, Stage, Stopped};

const STAGE: Stage = Stage { kind: "certify", version: 2 };

/// The file with the radii that are done.
const PROGRESS: &str = "progress.json";

/// The output of a certify job, beside its files.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CertifyResult {
    /// One for each radius at which the bound is measured.
    pub levels: Vec<CertifyLevel>,
}

/// The certificates of one radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CertifyLevel {
    /// How far representations move at this radius.
    #[serde(flatten)]
    pub displacements: Displacements,
    /// The file with the certificates, in the folder of the job.
    pub file: String,
    /// What the certificates cost, for one sample.
    pub cost: Cost,
}

/// A job that certifies the encoder of `pretrain` on the samples of the bound.
pub fn job(study: &Arc<StudyContext>, pretrain: Key, name: &str, seed: u64) -> Job {
    let configs = configs(study);
    let (steps, restarts) = (study.profile.attack.steps, study.profile.attack.restarts);
    // Part of the key; the step is scaled to each radius.
    let attack = Pgd { steps, restarts, ..Pgd::default() };
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "certify": configs, "attack": attack, "images": study.profile.bound.samples, "subset": study.profile.subset,
        }),
        inputs: vec![pretrain],
        seconds: seconds_per_sample(study) * (configs.len() * study.profile.bound.samples) as f64,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let path = context.input(0).folder.join(ENCODER);
        let encode = study.encode(context, 0)?;
        let hash = files::hash(&path)?;
        let x = study.pixels(&sample(&study)?);
        let samples = hash_pixels(&x);
        let network = Network::trace(&encode, &x.slice(0, 0, 1))?;
        let mut levels: Vec<CertifyLevel> = context.saved(PROGRESS).unwrap_or_default();
        levels.truncate(
            levels.iter().zip(0..configs.len()).take_while(|(level, i)| level.file == file(*i)).count(),
        );
        levels.iter().for_each(|level| drop(context.output(&level.file)));
        for (i, config) in configs.iter().enumerate().skip(levels.len()) {
            let epsilon = config.threat.epsilon;
            context.progress(i as u64, configs.len() as u64, &format!("ε = {epsilon}"));
            let began = std::time::Instant::now();
            let stop = context.stop();
            let found = certify_until(&network, &x, config, &|| stop.urgent().is_some())?;
            let Some((found, cost)) = found else {
                return Err(context.stop().urgent().unwrap_or(Stopped::Signal).into());
            };
            let seconds = began.elapsed().as_secs_f64();
            let attack = displacement_attack(&config.threat, steps, restarts);
            let key = Random::new(context.seed()).fold("certify");
            let displacements =
                Displacements::measure(&encode, &network, &x, &config.threat, &found, &attack, key)?;
            let file = file(i);
            let provenance =
                Provenance { encoder: hash.clone(), samples: samples.clone(), config: *config, cost };
            let path = context.output(&file);
            files::write_atomic(&path, &Certificates { provenance, samples: found }.to_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            context.log(&format!(
                "ε = {epsilon}: certified {:.2} times what an attack reached in the median, {:.0} rows and {:.2} s a sample",
                displacements.tightness(),
                cost.rows,
                seconds / displacements.certified.len() as f64
            ));
            levels.push(CertifyLevel { displacements, file, cost });
            context.save(PROGRESS, &levels)?;
        }
        serde_json::to_value(CertifyResult { levels }).context("certificates as JSON")
    })
}

/// An estimate on two cores: a row is substituted for every unit that can change its sign.
fn seconds_per_sample(study: &StudyContext) -> f64 {
    match study.profile.encoder.arch {
        Arch::ConvFlat => 0.05 * study.profile.encoder.width.powi(2),
        _ => 1.6 * study.profile.encoder.width.powi(2),
    }
}

/// The test images that are certified and that the bound is measured on, the same for every encoder and seed.
///
/// # Errors
/// Fails if there are too few images.
pub fn sample(study: &StudyContext) -> anyhow::Result<Dataset> {
    let test = study.images()?.test;
    let n = study.profile.bound.samples.min(test.len());
    Ok(test.balanced_subset(n / test.classes.len(), Random::new(0).fold("bound"))?)
}

/// The file with the certificates of radius `i`.
fn file(i: usize) -> String {
    format!("certificates-{i}.safetensors")
}

/// What is certified at each radius.
fn configs(study: &StudyContext) -> Vec<CertifyConfig> {
    let radii = study.profile.bound_epsilons();
    radii
        .iter()
        .map(|&epsilon| CertifyConfig { threat: Threat::linf(epsilon), ..CertifyConfig::default() })
        .collect()
}

/// What certificates of images `x` are bound to: the hash of the pixels.
pub fn hash_pixels(x: &Tensor) -> String {
    let bytes: Vec<u8> = x.to_vec::<f32>().iter().flat_map(|v| v.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().to_string()
}

/// BLAKE3 of labels, in hexadecimal.
pub fn hash_labels(labels: &[u32]) -> String {
    let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().to_string()
}
