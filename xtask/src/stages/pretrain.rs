//! Pre-training of one method with one seed.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_data::Manifest;
use tarrl_encoders::EncoderConfig;
use tarrl_train::{EpochRecord, Event, Finish, Method, Options, Pretraining, TrainConfig, TrainError};

use super::Lab;
use crate::jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "pretrain", version: 1 };

/// The file with the trained encoder.
pub const ENCODER: &str = "encoder.safetensors";

/// What a pre-training job gives.
#[derive(Debug, Deserialize, Serialize)]
pub struct Output {
    /// What the last epoch was like.
    pub last: Option<EpochRecord>,
}

/// A job that trains an encoder by `method`. The method's title is no part of its key.
pub fn job(lab: &Arc<Lab>, data: Key, manifest: &Manifest, method: &Method, name: &str, seed: u64) -> Job {
    let config = train_config(lab, manifest, method, seed);
    let images = lab.profile.subset.train.unwrap_or(manifest.train);
    let untitled = Method { title: String::new(), ..method.clone() };
    let keyed = TrainConfig { method: untitled, ..config.clone() };
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"train": keyed, "subset": lab.profile.subset}),
        inputs: vec![data],
        seconds: images as f64 * config.epochs as f64 * seconds_per_image(&config),
    };
    let lab = lab.clone();
    Job::new(spec, move |context| {
        context.output(ENCODER);
        context.scratch("checkpoint.safetensors");
        let images = lab.images()?;
        let training = Pretraining {
            config: &config,
            data: &images.train,
            device: &lab.device,
            folder: context.folder(),
            options: Options::default(),
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
                "epoch {}: loss {:.4}, objective {:.4}, R {:.4}, {:.0} images/s",
                epoch.epoch, epoch.loss, epoch.objective, epoch.regularizer, epoch.images_per_second
            )),
            Event::Warning(warning) => context.log(&format!("warning {}: {}", warning.name, warning.message)),
            Event::Saved { .. } => {}
        });
        let finish = finish.map_err(|error| located(error, &lab.profile.path))?;
        let Finish::Trained(trained) = finish else { anyhow::bail!("the training stopped before its end") };
        Ok(serde_json::to_value(Output { last: trained.last })?)
    })
}

/// The error, with the file that its remedy speaks of.
fn located(error: TrainError, profile: &Path) -> anyhow::Error {
    let diverged = matches!(error, TrainError::Diverged { .. });
    let error = anyhow::Error::new(error);
    if diverged { error.context(format!("[pretrain] of {}", profile.display())) } else { error }
}

fn train_config(lab: &Lab, manifest: &Manifest, method: &Method, seed: u64) -> TrainConfig {
    let (encoder, pretrain) = (lab.profile.encoder, &lab.profile.pretrain);
    TrainConfig {
        encoder: EncoderConfig {
            arch: encoder.arch,
            width: encoder.width,
            in_channels: manifest.shape[2],
            mean: manifest.mean.clone(),
            std: manifest.std.clone(),
        },
        optimizer: pretrain.optimizer,
        epochs: pretrain.epochs,
        batch: pretrain.batch,
        warmup_epochs: pretrain.warmup_epochs,
        seed,
        ..TrainConfig::new(method.clone())
    }
}

/// A guess for the plan: passes through the encoder at the speed of two cores.
fn seconds_per_image(config: &TrainConfig) -> f64 {
    let forward = 14.7e6 * config.encoder.width.powi(2) * 2.0 / 60e9 + 4e-5 * config.encoder.width;
    let trained = 3.0 * (config.method.views.len() as f64);
    let regularized = config.method.regularizer.as_ref().map_or(0.0, |r| {
        let steps = r.config().inner.steps.unwrap_or(5) as f64;
        2.0 + 2.0 * steps + 6.0
    });
    forward * (trained + regularized)
}
