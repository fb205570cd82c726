//! Certificates of an encoder: made once, before any task is known.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Start, Threat, pgd};
use tarrl_certify::{About, Certificates, CertifyConfig, Cost, Network, certify};
use tarrl_data::Dataset;
use tarrl_encoders::Arch;
use tarrl_tensor::{Key as Random, Tensor};

use super::{StudyContext, pretrain};
use crate::jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "certify", version: 1 };

/// Stands for infinity, which JSON has not: a bound that claims nothing.
pub const NO_CLAIM: f64 = 1e30;

/// What a certify job gives, beside the files.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Output {
    /// One for each radius at which the bound is measured.
    pub levels: Vec<Level>,
}

/// The certificates of one radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Level {
    /// ε in pixels.
    pub epsilon: f64,
    /// The file with the certificates, in the folder of the job.
    pub file: String,
    /// `(n)`: the certified displacement of each sample.
    pub certified: Vec<f64>,
    /// `(n)`: the largest displacement that an attack without a task reached, in f64.
    pub reached: Vec<f64>,
    /// `(d)` for each sample: the representation there, in f64.
    pub ends: Vec<f64>,
    /// What the certificates cost, for one sample.
    pub cost: Cost,
}

impl Level {
    /// The median over samples of certified over reached displacement.
    pub fn tightness(&self) -> f64 {
        median(self.certified.iter().zip(&self.reached).map(|(c, r)| c / r))
    }
}

/// The upper median.
///
/// # Panics
/// If there are no values.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A job that certifies the encoder of `pretrain` on the samples of the bound.
pub fn job(lab: &Arc<StudyContext>, pretrain: Key, name: &str, seed: u64) -> Job {
    let configs = configs(lab);
    let attack = displacement_attack(lab.profile.attack.steps, lab.profile.attack.restarts);
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "certify": configs, "attack": attack, "images": lab.profile.bound.samples, "subset": lab.profile.subset,
        }),
        inputs: vec![pretrain],
        seconds: seconds_per_sample(lab) * (configs.len() * lab.profile.bound.samples) as f64,
    };
    let lab = lab.clone();
    Job::new(spec, move |context| {
        let path = context.input(0).folder.join(pretrain::ENCODER);
        let encoder = lab.encoder(&context.input(0).folder)?;
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let x = lab.pixels(&sample(&lab)?);
        let samples = hash_of(&x);
        let network = Network::read(&|x| encoder.forward(x), &x.slice(0, 0, 1))?;
        let mut levels = Vec::new();
        for (i, config) in configs.iter().enumerate() {
            let epsilon = config.threat.epsilon;
            context.progress(i as u64, configs.len() as u64, &format!("ε = {epsilon}"));
            let began = std::time::Instant::now();
            let (found, cost) = certify(&network, &x, config)?;
            let seconds = began.elapsed().as_secs_f64();
            let certified: Vec<f64> = found.iter().map(|c| c.radius()).collect();
            let key = Random::new(context.seed()).fold("certify");
            let end = displaced(&|x| encoder.forward(x), &x, &config.threat, &attack, key);
            let ends = network.forward(&end).array().to_f64();
            let clean = network.forward(&x).array().to_f64();
            let reached = distances(&ends, &clean, network.features());
            below(&reached, &certified, epsilon)?;
            let certified = certified.into_iter().map(|radius| radius.min(NO_CLAIM)).collect();
            let file = format!("certificates-{i}.safetensors");
            let about = About { encoder: hash.clone(), samples: samples.clone(), config: *config, cost };
            let path = context.output(&file);
            std::fs::write(&path, Certificates { about, samples: found }.to_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            let level = Level { epsilon, file, certified, reached, ends, cost };
            context.log(&format!(
                "ε = {epsilon}: certified {:.2} times what an attack reached in the median, {:.0} rows and {:.2} s a sample",
                level.tightness(),
                cost.rows,
                seconds / level.certified.len() as f64
            ));
            levels.push(level);
        }
        serde_json::to_value(Output { levels }).context("certificates as JSON")
    })
}

/// A guess for the plan, on two cores: a row is substituted for every unit that can change its sign.
fn seconds_per_sample(lab: &StudyContext) -> f64 {
    match lab.profile.encoder.arch {
        Arch::ConvFlat => 0.05 * lab.profile.encoder.width.powi(2),
        _ => 1.6 * lab.profile.encoder.width.powi(2),
    }
}

/// The test images that are certified and that the bound is measured on, the same for every encoder and seed.
///
/// # Errors
/// Fails if there are too few images.
pub fn sample(lab: &StudyContext) -> anyhow::Result<Dataset> {
    let test = lab.images()?.test;
    let n = lab.profile.bound.samples.min(test.len());
    Ok(test.balanced_subset(n / test.classes.len(), Random::new(0).fold("bound"))?)
}

/// What is certified at each radius.
pub fn configs(lab: &StudyContext) -> Vec<CertifyConfig> {
    let radii = lab.profile.bound_epsilons();
    radii
        .iter()
        .map(|&epsilon| CertifyConfig { threat: Threat::linf(epsilon), ..CertifyConfig::default() })
        .collect()
}

/// What certificates of images `x` are bound to: the hash of the pixels.
pub fn hash_of(x: &Tensor) -> String {
    let bytes: Vec<u8> = x.to_vec::<f32>().iter().flat_map(|v| v.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().to_string()
}

/// `(n)`: the Euclidean distance of each row of `a` from that of `b`, both `(n, d)`.
pub fn distances(a: &[f64], b: &[f64], d: usize) -> Vec<f64> {
    let distance =
        |(a, b): (&[f64], &[f64])| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    a.chunks(d).zip(b.chunks(d)).map(distance).collect()
}

/// Compares what attacks reached with what is certified, both `(n)`; no slack, because both sides are computed in f64 and
/// rounding is covered.
///
/// # Errors
/// Fails if an attack passed a certificate.
pub fn below(reached: &[f64], certified: &[f64], epsilon: f64) -> anyhow::Result<()> {
    // Counted this way round, because NaN is below nothing.
    let passed = reached.len() - reached.iter().zip(certified).filter(|(r, c)| r <= c).count();
    if passed > 0 {
        anyhow::bail!(
            "an attack passed the certificates of {passed} images at ε = {epsilon}: the program is wrong, because the \
             theorem is not"
        );
    }
    Ok(())
}

/// PGD on the displacement, which needs a random start: where nothing has moved yet there is no gradient.
pub fn displacement_attack(steps: usize, restarts: usize) -> Pgd {
    Pgd { steps, restarts, start: Start::Random, include_clean: true, ..Pgd::default() }
}

/// The points of the ball where an ascent of the squared displacement ended.
pub fn displaced(
    encode: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    threat: &Threat,
    attack: &Pgd,
    key: Random,
) -> Tensor {
    let clean = encode(x).detach();
    let moved = |u: &Tensor, of: &[usize]| {
        let rows: Vec<Tensor> = of.iter().map(|&i| clean.slice(0, i, 1)).collect();
        let rows = Tensor::concat(&rows.iter().collect::<Vec<_>>(), 0);
        (&encode(u) - &rows).square().sum(1).reshape([of.len()])
    };
    let keys: Vec<Random> = (0..x.shape()[0]).map(|i| key.fold(i)).collect();
    let config = Pgd { step_size: 2.5 * threat.epsilon / attack.steps as f64, ..*attack };
    pgd(x, &moved, threat, &config, &keys).best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_certificate_stops_the_study() {
        assert!(below(&[1.0, 0.5], &[1.0, 0.6], 0.1).is_ok());
        let error = below(&[1.0, 0.7], &[1.0, 0.6], 0.1).unwrap_err().to_string();
        assert!(error.starts_with("an attack passed the certificates of 1 images at ε = 0.1"), "{error}");
        assert!(below(&[0.1], &[f64::NAN], 0.1).is_err());
        assert!(below(&[0.1], &[f64::INFINITY], 0.1).is_ok());
    }

    #[test]
    fn distances_are_of_rows() {
        assert_eq!(distances(&[3.0, 4.0, 1.0, 1.0], &[0.0, 0.0, 1.0, 0.0], 2), [5.0, 1.0]);
    }
}
