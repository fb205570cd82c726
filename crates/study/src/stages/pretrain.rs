//! Pre-training stage: one encoder of one method with one seed.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_data::Manifest;
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_tensor::Device;
use tarrl_train::{EpochRecord, Event, Finish, Method, Options, Pretraining, TrainConfig, TrainError};

use crate::context::{ENCODER, StudyContext};
use tarrl_jobs::{Job, Key, Spec, Stage, Stopped};

const STAGE: Stage = Stage { kind: "pretrain", version: 2 };

/// The output of a pre-training job.
#[derive(Debug, Deserialize, Serialize)]
pub struct PretrainResult {
    /// What the last epoch was like.
    pub last: Option<EpochRecord>,
}

/// A job that trains an encoder by `method`, whose title is no part of the key. `inputs` are the data and the jobs that
/// train the encoders which the method needs, in the order of [`Method::needed`].
pub fn job(
    study: &Arc<StudyContext>,
    inputs: Vec<Key>,
    manifest: &Manifest,
    method: &Method,
    name: &str,
    seed: u64,
) -> Job {
    let config = train_config(study, manifest, method, seed);
    let images = study.profile.subset.train.unwrap_or(manifest.train);
    let untitled = Method { title: String::new(), ..method.clone() };
    let keyed = TrainConfig { method: untitled, ..config.clone() };
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"train": keyed, "subset": study.profile.subset}),
        inputs,
        seconds: images as f64
            * config.epochs as f64
            * seconds_per_image(study.multiply_adds(manifest), &config),
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        context.output(ENCODER);
        context.scratch("checkpoint.safetensors");
        let images = study.images()?;
        // Input 0 is the data.
        let mut encoders = (1..=config.method.needed().count())
            .map(|input| load_encoder(&context.input(input).folder.join(ENCODER), &study.device));
        let mut next = |name: &Option<String>| name.as_ref().and_then(|_| encoders.next()).transpose();
        let (teacher, start) = (next(&config.method.teacher)?, next(&config.method.start)?);
        let training = Pretraining {
            config: &config,
            data: &images.train,
            teacher: teacher.as_ref(),
            start: start.as_ref(),
            device: &study.device,
            folder: context.folder(),
            options: Options {
                stop_on_collapse: study.profile.pretrain.stop_on_collapse,
                stop: Some({
                    let stop = context.stop().clone();
                    Arc::new(move || stop.reason().is_some())
                }),
                loader_threads: loader_threads(&study.device),
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
        let finish = finish.map_err(|error| located(error, &study.profile.path))?;
        let Finish::Trained(trained) = finish else {
            return Err(context.stop().reason().unwrap_or(Stopped::Signal).into());
        };
        Ok(serde_json::to_value(PretrainResult { last: trained.last })?)
    })
}

/// Loader threads. Where the device augments the images, the cores of the host are free for more of them.
fn loader_threads(device: &Device) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if device.augment().is_some() { cores.min(4) } else { 1 }
}

/// The error, with the profile that its remedy names.
fn located(error: TrainError, profile: &Path) -> anyhow::Error {
    let profiled = matches!(error, TrainError::Diverged { .. } | TrainError::Collapsed { .. });
    let error = anyhow::Error::new(error);
    if profiled { error.context(format!("[pretrain] of {}", profile.display())) } else { error }
}

fn train_config(study: &StudyContext, manifest: &Manifest, method: &Method, seed: u64) -> TrainConfig {
    let pretrain = &study.profile.pretrain;
    TrainConfig {
        encoder: study.encoder_config(manifest),
        optimizer: pretrain.optimizer,
        epochs: pretrain.epochs,
        batch: pretrain.batch,
        warmup_epochs: pretrain.warmup_epochs,
        seed,
        precision: pretrain.precision,
        ..TrainConfig::new(method.clone())
    }
}

/// An estimate on two cores, which compute 60 GFLOP/s; a backward pass takes as long as two forward.
fn seconds_per_image(multiply_adds: f64, config: &TrainConfig) -> f64 {
    let forward = multiply_adds * 2.0 / 60e9 + 4e-5 * config.encoder.width;
    let [passes, back] = config.method.passes();
    forward * (passes + 2.0 * back)
}
