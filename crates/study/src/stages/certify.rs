//! Certify stage: certificates of an encoder, made once, before any task is known.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{Pgd, Threat};
use tarrl_certify::{Certificate, Certificates, CertifyConfig, Cost, Network, Provenance, certify_until};
use tarrl_data::Dataset;
use tarrl_encoders::Arch;
use tarrl_eval::{Displacements, displacement_attack};
use tarrl_tensor::{Key as Random, Tensor};

use crate::context::{ENCODER, StudyContext};
use tarrl_jobs::files;
use tarrl_jobs::{Job, Key, Spec, Stage, Stopped};

const STAGE: Stage = Stage { kind: "certify", version: 3 };

/// The file with the radii that are done.
const PROGRESS: &str = "progress.json";

/// Samples that are certified at a time: these are kept if the job is stopped.
const PART: usize = 32;

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
        let part = |i: usize, start: usize| context.scratch(&format!("part-{i}-{start}.safetensors"));
        // Named before any is written, so that all of them are removed in the end, whoever wrote them.
        for i in 0..configs.len() {
            (0..x.shape()[0]).step_by(PART).for_each(|start| drop(part(i, start)));
        }
        for (i, config) in configs.iter().enumerate().skip(levels.len()) {
            let epsilon = config.threat.epsilon;
            context.progress(i as u64, configs.len() as u64, &format!("ε = {epsilon}"));
            let began = std::time::Instant::now();
            let stop = context.stop();
            let parts = Parts { network: &network, x: &x, encoder: &hash, path: &|start| part(i, start) };
            let Some((found, cost)) = parts.certify(config, &|| stop.urgent().is_some())? else {
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

/// Samples that are certified part by part, each of which is a file as soon as it is finished.
struct Parts<'a> {
    network: &'a Network,
    x: &'a Tensor,
    encoder: &'a str,
    /// Where the part that begins with this sample is.
    path: &'a dyn Fn(usize) -> PathBuf,
}

impl Parts<'_> {
    /// The certificates of all samples and their mean cost, those of finished parts from their files; nothing if `stop`
    /// ended it.
    fn certify(
        &self,
        config: &CertifyConfig,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> anyhow::Result<Option<(Vec<Certificate>, Cost)>> {
        let n = self.x.shape()[0];
        let (mut all, mut sum) = (Vec::with_capacity(n), Cost::default());
        for start in (0..n).step_by(PART) {
            let x = self.x.slice(0, start, PART.min(n - start));
            let (path, samples) = ((self.path)(start), hash_pixels(&x));
            let part = match self.read(&path, &samples, config) {
                Some(part) => part,
                None => {
                    let Some((certificates, cost)) = certify_until(self.network, &x, config, stop)? else {
                        return Ok(None);
                    };
                    let provenance =
                        Provenance { encoder: self.encoder.to_owned(), samples, config: *config, cost };
                    let part = Certificates { provenance, samples: certificates };
                    files::write_atomic(&path, &part.to_bytes())
                        .with_context(|| format!("cannot write {}", path.display()))?;
                    part
                }
            };
            // Whole numbers, whose mean over the part is rounded: so the mean over all is that of one pass.
            let len = part.samples.len() as f64;
            sum.forward += (part.provenance.cost.forward * len).round();
            sum.rows += (part.provenance.cost.rows * len).round();
            all.extend(part.samples);
        }
        Ok(Some((all, Cost { forward: sum.forward / n as f64, rows: sum.rows / n as f64 })))
    }

    /// A part that was finished before: whole, of this encoder, these samples and this configuration.
    fn read(&self, path: &Path, samples: &str, config: &CertifyConfig) -> Option<Certificates> {
        let part = Certificates::from_reader(File::open(path).ok()?).ok()?;
        (part.check(self.encoder, samples).is_ok() && part.provenance.config == *config).then_some(part)
    }
}

/// An estimate on two cores: a row is substituted for every unit that can change its sign.
pub(super) fn seconds_per_sample(study: &StudyContext) -> f64 {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tarrl_certify::certify;
    use tarrl_tensor::{DType, Random as Distribution, cpu};

    use super::*;

    /// Forty samples of three numbers under a network of two layers; stopped in the second part.
    #[test]
    fn a_stopped_certification_keeps_its_finished_parts_and_ends_with_the_same_certificates() {
        let device = cpu();
        let keys: Vec<Random> = (0..40).map(|i| Random::new(3).fold(i as u64)).collect();
        let x = Tensor::random(&device, Distribution::Uniform, &keys, &[1, 3, 1], DType::F32);
        let first = Tensor::new(
            &device,
            [3, 4],
            &[0.5f32, -1.0, 0.25, 1.0, -0.5, 0.75, 1.0, 0.5, 1.0, 0.25, -0.25, 0.5],
        );
        let second = Tensor::new(&device, [4, 2], &[1.0f32, -0.5, 0.5, 1.0, -1.0, 0.25, 0.5, 0.75]);
        let encode = |x: &Tensor| {
            let n = x.shape()[0];
            x.reshape([n, 3]).add_scalar(-0.5).matmul(&first).relu().matmul(&second)
        };
        let network = Network::trace(&encode, &x.slice(0, 0, 1)).unwrap();
        let config = CertifyConfig { threat: Threat::linf(0.1), batch: 4, ..CertifyConfig::default() };
        let (golden, cost) = certify(&network, &x, &config).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let path = |start: usize| folder.path().join(format!("part-{start}"));
        let parts = |encoder| Parts { network: &network, x: &x, encoder, path: &path };
        let asked = AtomicUsize::new(0);
        // Eight batches of the first part, whatever the number of threads, which may make batches smaller.
        let stop = || path(0).exists() || asked.fetch_add(1, Ordering::Relaxed) > 1000;
        assert!(parts("a").certify(&config, &stop).unwrap().is_none());
        assert!(path(0).exists() && !path(PART).exists());

        // The first part is taken as it is: nothing is asked but for the batches of the second, of eight samples.
        let (found, found_cost) = parts("a").certify(&config, &|| false).unwrap().unwrap();
        assert!(found == golden && found_cost == cost, "{found_cost:?} but {cost:?}");
        assert!(parts("a").certify(&config, &|| true).unwrap().is_some(), "two finished parts need no batch");

        // Of another encoder, another configuration, or damaged: made anew.
        assert!(parts("b").certify(&config, &|| true).unwrap().is_none());
        let other = CertifyConfig { threat: Threat::linf(0.2), ..config };
        assert!(parts("a").certify(&other, &|| true).unwrap().is_none());
        let mut bytes = std::fs::read(path(0)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path(0), bytes).unwrap();
        assert!(parts("a").certify(&config, &|| true).unwrap().is_none());
        assert!(parts("a").certify(&config, &|| false).unwrap().unwrap().0 == golden);
    }
}
