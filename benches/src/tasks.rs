//! Whole tasks that other programs do too: AutoAttack, certificates, a linear probe and an augmentation.
//!
//! Inputs come from seeds. Encoder and head are of [`trained_encoder`], so that nothing has to be trained beforehand.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use ndarray::Array4;
use tarrl_attacks::{AutoAttack, Threat, auto_attack};
use tarrl_certify::{CertifyConfig, Network, certify};
use tarrl_data::augment::{Blur, Recipe, View};
use tarrl_data::{Catalog, Dataset, Loader, LoaderConfig, npy, write_zip};
use tarrl_encoders::{Encoder, EncoderConfig, checkpoint::load_encoder};
use tarrl_eval::{DeviceHead, Probe, ProbeConfig, dataset_pixels, features, labels, linear_probe};
use tarrl_interop::save_state_dict;
use tarrl_tensor::{DType, Device, Key, Tensor};
use tarrl_train::{AdamW, OptimizerConfig, TrainConfig, config::read_toml, pretrain};

use crate::repository;

/// A task on inputs that every program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// AutoAttack's standard version in the l-infinity ball, encoder and linear head, 20 images.
    AutoAttack,
    /// Certificates of the representations of 4 images in the l-infinity ball, at the default effort.
    Certify,
    /// The linear probe on the representations of 10,000 images: standardization, and one logistic regression.
    Probe,
    /// Two random views of 1024 color images of 32×32: crop, mirror image, color, grayscale, blur.
    Augment,
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 4] = [Task::AutoAttack, Task::Certify, Task::Probe, Task::Augment];

    fn name(self) -> &'static str {
        match self {
            Task::AutoAttack => "autoattack",
            Task::Certify => "certify",
            Task::Probe => "probe",
            Task::Augment => "augment",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        Task::ALL.into_iter().find(|task| task.name() == name).ok_or_else(|| UnknownTask(name.to_owned()))
    }
}

/// A name that no [`Task`] has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no task `{0}`; take one of {names}", names = Task::ALL.map(Task::name).join(", "))]
pub struct UnknownTask(String);

/// The radius of AutoAttack: both robust and broken images are left at it.
const ATTACK_EPSILON: f64 = 0.05;

/// The radius of certificates, that of the default study.
const CERTIFY_EPSILON: f64 = 0.01;

/// The weight of the squared norm of the probe.
const L2: f64 = 1e-3;

/// Images of one class that are attacked.
const ATTACKED: usize = 2;

/// Images that are certified.
const CERTIFIED: usize = 4;

/// Color images that are augmented.
const AUGMENTED: usize = 1024;

/// A task that can be run any number of times.
pub struct PreparedTask(Box<dyn FnMut() -> anyhow::Result<String>>);

impl PreparedTask {
    /// The task with its inputs; an encoder is trained in `folder` unless one is there.
    ///
    /// # Errors
    /// If the bundled images cannot be read, or the folder cannot be written.
    pub fn new(task: Task, folder: &Path, device: &Device) -> anyhow::Result<Self> {
        Ok(PreparedTask(match task {
            Task::AutoAttack => {
                let Classifier { encoder, probe, .. } = Classifier::new(folder, device)?;
                let encoder = encoder.inference();
                let head = DeviceHead::new(&probe.head, device, DType::F32);
                let images = attacked_images()?;
                let (x, labels) = (dataset_pixels(&images, device), labels(&images.labels));
                let keys: Vec<Key> = (0..labels.len()).map(|image| Key::new(4).fold(image)).collect();
                let threat = Threat::linf(ATTACK_EPSILON);
                Box::new(move || {
                    let logits = |u: &Tensor| head.forward(&encoder.forward(u));
                    let found = auto_attack(&logits, &x, &labels, &threat, &AutoAttack::default(), &keys);
                    let robust = found.success.iter().filter(|broken| !**broken).count();
                    Ok(format!("{robust} of {} robust", labels.len()))
                })
            }
            Task::Certify => {
                let encoder = trained_encoder(folder, device)?.inference();
                let x = dataset_pixels(&certified_images()?, device);
                let network = Network::trace(&|u: &Tensor| encoder.forward(u), &x.slice(0, 0, 1))?;
                let config =
                    CertifyConfig { threat: Threat::linf(CERTIFY_EPSILON), ..CertifyConfig::default() };
                Box::new(move || {
                    let (certificates, _) = certify(&network, &x, &config)?;
                    let sum: f64 = certificates.iter().map(|certificate| certificate.radius()).sum();
                    Ok(format!("mean radius {:.4}", sum / certificates.len() as f64))
                })
            }
            Task::Probe => {
                let Classifier { features, labels, .. } = Classifier::new(folder, device)?;
                Box::new(move || Ok(format!("objective {:.7}", fit(&features, &labels)?.objective)))
            }
            Task::Augment => {
                let data = Arc::new(color_images());
                let view = View::Custom(Recipe {
                    blur: Blur { probability: 0.5, ..Blur::default() },
                    ..View::Strong.recipe(data.shape())
                });
                let config = LoaderConfig {
                    batch: 64,
                    views: vec![view; 2],
                    threads: device.threads(),
                    ..LoaderConfig::default()
                };
                Box::new(move || {
                    let batches = Loader::new(data.clone(), Key::new(6), &config)?;
                    let views: usize = batches.map(|batch| batch.views.len() * batch.indices.len()).sum();
                    Ok(format!("{views} views"))
                })
            }
        }))
    }

    /// Runs it once: the seconds, and what came out in words.
    ///
    /// # Errors
    /// If the task fails.
    pub fn run(&mut self) -> anyhow::Result<(f64, String)> {
        let clock = Instant::now();
        let result = (self.0)()?;
        Ok((clock.elapsed().as_secs_f64(), result))
    }
}

/// Writes the inputs of a task into `folder` for the program in `benches/peers/task_peer.py`; its further arguments.
pub(crate) fn write_inputs(task: Task, folder: &Path, device: &Device) -> anyhow::Result<Vec<String>> {
    let pixels = |images: &Dataset| {
        let x = dataset_pixels(images, device);
        [
            ("images.npy", npy::encode_f32(&x.shape()[..], &x.to_vec::<f32>())),
            ("labels.npy", npy::encode_u32(&[images.len()], &labels(&images.labels))),
        ]
    };
    let epsilon = |epsilon: f64| vec!["--epsilon".to_owned(), epsilon.to_string()];
    match task {
        Task::AutoAttack | Task::Certify => {
            let Classifier { encoder, probe, .. } = Classifier::new(folder, device)?;
            let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
            let (weight, bias) = (single(probe.head.weight()), single(probe.head.bias()));
            save_state_dict(&folder.join("model.safetensors"), &encoder, Some((&weight, &bias)))?;
            let is_attack = task == Task::AutoAttack;
            write(folder, &pixels(&if is_attack { attacked_images()? } else { certified_images()? }))?;
            Ok(epsilon(if is_attack { ATTACK_EPSILON } else { CERTIFY_EPSILON }))
        }
        Task::Probe => {
            let Classifier { features, labels, probe, .. } = Classifier::new(folder, device)?;
            write(
                folder,
                &[
                    ("features.npy", npy::encode_f32(&features.shape()[..], &features.to_vec::<f32>())),
                    ("labels.npy", npy::encode_u32(&[labels.len()], &labels)),
                ],
            )?;
            let numbers = [("--l2", L2), ("--objective", probe.objective)];
            Ok(numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]).collect())
        }
        Task::Augment => {
            let images = color_images().images;
            let shape: [usize; 4] = images.dim().into();
            write(folder, &[("images.npy", npy::encode_u8(&shape, &images.into_raw_vec_and_offset().0))])?;
            Ok(vec![])
        }
    }
}

/// Writes `inputs.npz`.
fn write(folder: &Path, members: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let mut bytes = Vec::new();
    write_zip(&mut bytes, &members)?;
    tarrl_files::write_atomic(&folder.join("inputs.npz"), &bytes)
        .with_context(|| format!("cannot write into {}", folder.display()))
}

/// An encoder with the representations of the training images, and the head that is fitted to them.
struct Classifier {
    encoder: Encoder,
    /// `(n, d)`
    features: Tensor,
    labels: Vec<u32>,
    probe: Probe,
}

impl Classifier {
    fn new(folder: &Path, device: &Device) -> anyhow::Result<Self> {
        let encoder = trained_encoder(folder, device)?;
        let (train, _) = bundled_images()?;
        let inference = encoder.inference();
        let features = features(&|x| inference.forward(x), &train, device, 250);
        let labels = labels(&train.labels);
        Ok(Classifier { probe: fit(&features, &labels)?, encoder, features, labels })
    }
}

fn fit(features: &Tensor, labels: &[u32]) -> anyhow::Result<Probe> {
    let config = ProbeConfig { l2: vec![L2], ..ProbeConfig::default() };
    Ok(linear_probe(features, labels, 10, &config, Key::new(2))?)
}

/// ConvSmall at half width, as in the default study, after one epoch of adversarial training on the bundled images; the
/// file of an earlier call where there is one.
fn trained_encoder(folder: &Path, device: &Device) -> anyhow::Result<Encoder> {
    let file = folder.join("encoder.safetensors");
    if !file.exists() {
        let method = read_toml(&repository().join("experiments/methods/at.toml"))?;
        let config = TrainConfig {
            encoder: EncoderConfig { width: 0.5, ..EncoderConfig::default() },
            optimizer: OptimizerConfig::AdamW(AdamW { lr: 2e-3, ..AdamW::default() }),
            epochs: 1,
            batch: 64,
            ..TrainConfig::new(method)
        };
        let (train, _) = bundled_images()?;
        pretrain(&config, &Arc::new(train), device, folder, &mut |_| {})?;
    }
    Ok(load_encoder(&file, device)?)
}

/// Training and test images of the sample in the repository.
fn bundled_images() -> anyhow::Result<(Dataset, Dataset)> {
    let root = repository();
    let splits = Catalog::new(root.join("datasets"), root.join("data")).load("fashion-mnist-sample")?;
    Ok((splits.train, splits.test))
}

fn attacked_images() -> anyhow::Result<Dataset> {
    Ok(bundled_images()?.1.balanced_subset(ATTACKED, Key::new(3))?)
}

fn certified_images() -> anyhow::Result<Dataset> {
    Ok(bundled_images()?.1.subset(&(0..CERTIFIED).collect::<Vec<_>>()))
}

/// Noise, because the work of an augmentation does not depend on what is seen.
fn color_images() -> Dataset {
    let mut stream = Key::new(5).stream();
    let images = Array4::from_shape_simple_fn((AUGMENTED, 32, 32, 3), || stream.below(256) as u8);
    Dataset::new("noise", images, vec![0; AUGMENTED], vec!["all".into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::Cpu;

    #[test]
    fn every_task_is_found_under_its_name() {
        for task in Task::ALL {
            assert_eq!(task.to_string().parse(), Ok(task));
        }
        let message = "attack".parse::<Task>().unwrap_err().to_string();
        assert!(message.contains("`attack`") && message.contains("autoattack, certify, probe"), "{message}");
    }

    #[test]
    fn an_augmentation_delivers_two_views_of_every_image_and_its_inputs_are_those_of_the_file() {
        let device = Cpu { threads: 2, ..Cpu::default() }.open();
        let folder = tempfile::tempdir().unwrap();
        let mut task = PreparedTask::new(Task::Augment, folder.path(), &device).unwrap();
        assert_eq!(task.run().unwrap().1, "2048 views");
        assert_eq!(write_inputs(Task::Augment, folder.path(), &device).unwrap(), [""; 0]);
        let source = folder.path().join("inputs.npz");
        let bytes = std::fs::read(source).unwrap();
        let pixels = color_images().images.into_raw_vec_and_offset().0;
        // Members are stored, not compressed.
        assert!(bytes.windows(4096).any(|window| window == &pixels[..4096]));
    }
}
