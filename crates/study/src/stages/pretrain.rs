//! Pre-training of one method with one seed.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_data::Manifest;
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_encoders::{Arch, EncoderConfig};
use tarrl_tensor::Device;
use tarrl_train::{EpochRecord, Event, Finish, Method, Options, Pretraining, TrainConfig, TrainError};

use super::StudyContext;
use crate::jobs::{Job, Key, Spec, Stage, TimeIsUp};

const STAGE: Stage = Stage { kind: "pretrain", version: 1 };

/// The file with the trained encoder.
pub const ENCODER: &str = "encoder.safetensors";

/// What a pre-training job gives.
#[derive(Debug, Deserialize, Serialize)]
pub struct Output {
    /// What the last epoch was like.
    pub last: Option<EpochRecord>,
}

/// A job that trains an encoder by `method`, whose title is no part of the key. `inputs` are the data and, if the method
/// has a teacher, the job that trains that.
pub fn job(
    lab: &Arc<StudyContext>,
    inputs: Vec<Key>,
    manifest: &Manifest,
    method: &Method,
    name: &str,
    seed: u64,
) -> Job {
    let config = train_config(lab, manifest, method, seed);
    let images = lab.profile.subset.train.unwrap_or(manifest.train);
    let untitled = Method { title: String::new(), ..method.clone() };
    let keyed = TrainConfig { method: untitled, ..config.clone() };
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"train": keyed, "subset": lab.profile.subset}),
        inputs,
        seconds: images as f64 * config.epochs as f64 * seconds_per_image(&config),
    };
    let lab = lab.clone();
    Job::new(spec, move |context| {
        context.output(ENCODER);
        context.scratch("checkpoint.safetensors");
        let images = lab.images()?;
        let teacher = match config.method.teacher {
            Some(_) => Some(load_encoder(&context.input(1).folder.join(ENCODER), &lab.device)?),
            None => None,
        };
        let training = Pretraining {
            config: &config,
            data: &images.train,
            teacher: teacher.as_ref(),
            device: &lab.device,
            folder: context.folder(),
            options: Options {
                stop_on_collapse: lab.profile.pretrain.stop_on_collapse,
                stop_at: lab.deadline,
                loader_threads: loader_threads(&lab.device),
                ..Options::default()
            },
        };
        let finish = training.run(&mut |event| match event {
            Event::Began { step, total, .. } => context.progress(*step, *total, ""),
            Event::Stepped { record, total, .. } => {
                context.progress(
                    record.step,
                    *total,
                    &format!("loss {:.3}, R {:.3}", record.objective, record.regularizer),
                );
            }
            Event::Epoch(epoch) => context.log(&format!(
                "epoch {}: loss {:.4}, objective {:.4}, R {:.4}, kNN {:.1} %, {:.0} images/s, passes {} forward, {} back, \
                 {:.1} s, of which waiting for batches {:.1}, saving {:.1}",
                epoch.epoch,
                epoch.loss,
                epoch.objective,
                epoch.regularizer,
                100.0 * epoch.knn,
                epoch.images_per_second,
                epoch.forward,
                epoch.backward,
                epoch.seconds,
                epoch.waiting,
                epoch.saving
            )),
            Event::Warning(warning) => context.log(&format!("warning {}: {}", warning.name, warning.message)),
            Event::Saved { .. } => {}
        });
        let finish = finish.map_err(|error| located(error, &lab.profile.path))?;
        let Finish::Trained(trained) = finish else { return Err(TimeIsUp.into()) };
        Ok(serde_json::to_value(Output { last: trained.last })?)
    })
}

/// Threads beside those of the device: where that augments the views, the cores of the host have nothing else to do.
fn loader_threads(device: &Device) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if device.augment().is_some() { cores.min(4) } else { 1 }
}

/// The error, with the file that its remedy speaks of.
fn located(error: TrainError, profile: &Path) -> anyhow::Error {
    let profiled = matches!(error, TrainError::Diverged { .. } | TrainError::Collapsed { .. });
    let error = anyhow::Error::new(error);
    if profiled { error.context(format!("[pretrain] of {}", profile.display())) } else { error }
}

fn train_config(lab: &StudyContext, manifest: &Manifest, method: &Method, seed: u64) -> TrainConfig {
    let (encoder, pretrain) = (lab.profile.encoder, &lab.profile.pretrain);
    TrainConfig {
        encoder: EncoderConfig {
            arch: encoder.arch,
            width: encoder.width,
            in_channels: manifest.shape[2],
            mean: manifest.mean.clone(),
            std: manifest.std.clone(),
            side: if encoder.arch.needs_side() { manifest.shape[0] } else { 0 },
            ..EncoderConfig::default()
        },
        optimizer: pretrain.optimizer,
        epochs: pretrain.epochs,
        batch: pretrain.batch,
        warmup_epochs: pretrain.warmup_epochs,
        seed,
        precision: pretrain.precision,
        ..TrainConfig::new(method.clone())
    }
}

/// Multiply-adds of a forward pass of one image at full width, to two digits: on 28×28 gray images for the small encoders,
/// on 32×32 in color for the others.
pub fn macs(arch: Arch) -> f64 {
    match arch {
        Arch::ConvSmall => 14.7e6,
        Arch::ConvFlat | Arch::Mlp => 1e6,
        Arch::Vgg11 => 0.15e9,
        Arch::ResNet18Cifar => 0.56e9,
        Arch::ResNet34Cifar => 1.2e9,
        Arch::ResNet50Cifar => 1.3e9,
        Arch::Wrn28x10 => 5.2e9,
        Arch::Wrn34x10 => 6.7e9,
        Arch::VitTiny => 0.36e9,
    }
}

/// A guess for the plan: passes through the encoder at the speed of two cores, one back as long as two forward.
fn seconds_per_image(config: &TrainConfig) -> f64 {
    let forward =
        macs(config.encoder.arch) * config.encoder.width.powi(2) * 2.0 / 60e9 + 4e-5 * config.encoder.width;
    let [passes, back] = config.method.passes();
    forward * (passes + 2.0 * back)
}
