//! Pre-training: the loop over batches.

use crate::error::TrainError;
use crate::method::at_strength;
use crate::metrics::Event;
use crate::pretraining::{Finish, Pretraining, Trained};
use crate::train_config::{Options, SettingError, TrainConfig};
use crate::trainer::Trainer;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tarrl_data::{Dataset, Loader, LoaderConfig};
use tarrl_encoders::EncoderConfig;
use tarrl_parallel::Shard;
use tarrl_tensor::{Device, Key};

/// Trains an encoder without labels: minimizes `objective + λ R` over all parameters.
///
/// `folder` receives `metrics.jsonl` (one [`Record`](crate::Record) a line), `checkpoint.safetensors` and in the end
/// `encoder.safetensors`. If a checkpoint of the same training is there, the training resumes from it and ends with the
/// same bits as an uninterrupted one, for any number of threads of `device`.
///
/// # Errors
/// Invalid settings, a folder that cannot be written, a checkpoint that is damaged or of another training, or a training
/// that diverges. The last good checkpoint is kept in every case.
pub fn pretrain(
    config: &TrainConfig,
    data: &Arc<Dataset>,
    device: &Device,
    folder: &Path,
    on_event: &mut dyn FnMut(&Event<'_>),
) -> Result<Trained, TrainError> {
    let options = Options::default();
    match (Pretraining { config, data, teacher: None, start: None, device, folder, options }).run(on_event)? {
        Finish::Trained(trained) => Ok(*trained),
        Finish::Stopped { .. } => unreachable!("nothing asked the training to stop"),
    }
}

impl Pretraining<'_> {
    /// Trains, or resumes from the checkpoint in the folder.
    ///
    /// # Errors
    /// As [`pretrain`].
    pub fn run(&self, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<Finish, TrainError> {
        self.check()?;
        if self.config.shards > 1 { self.run_shards(on_event) } else { self.run_shard(None, on_event) }
    }

    /// Trains on one shard of every batch; `None` is all of it.
    pub(crate) fn run_shard(
        &self,
        shard: Option<&Shard>,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<Finish, TrainError> {
        let mut trainer = Trainer::open(self, shard)?;
        let (began, total, steps_per_epoch) = (trainer.step(), trainer.total(), trainer.steps_per_epoch());
        on_event(&Event::Began { step: began, total, steps_per_epoch });
        loop {
            let mut loader = self.loader(trainer.step(), steps_per_epoch, shard)?;
            let mut load = |trainer: &mut Trainer<'_>| {
                let requested = Instant::now();
                loader.next().map(|batch| trainer.load_batch(&batch, requested))
            };
            let mut next = load(&mut trainer);
            while let Some(batch) = next {
                // The next batch is requested between launch and finish, so that a device computes meanwhile.
                let launched = trainer.launch_step(&batch, on_event)?;
                drop(batch);
                next = load(&mut trainer);
                trainer.finish_step(&launched, on_event)?;
                let step = trainer.step();
                if self.options.stop_after_steps.is_some_and(|most| step - began >= most) && step < total {
                    return Ok(Finish::Stopped { step });
                }
                let asked = step < total && self.options.stop.as_ref().is_some_and(|stop| stop());
                if trainer.agree_to_stop(asked, on_event)? {
                    trainer.save(on_event)?;
                    return Ok(Finish::Stopped { step });
                }
            }
            if trainer.step() >= total {
                return trainer.finish();
            }
        }
    }

    fn check(&self) -> Result<(), SettingError> {
        self.config.check()?;
        self.config.precision.check(self.device)?;
        let title = || self.config.method.title.clone();
        match (&self.config.method.teacher, self.teacher) {
            (Some(name), None) => {
                return Err(SettingError::MissingTeacher { title: title(), name: name.clone() });
            }
            (None, Some(_)) => return Err(SettingError::UnusedTeacher { title: title() }),
            _ => {}
        }
        match (&self.config.method.start, self.start) {
            (Some(name), None) => {
                return Err(SettingError::MissingStart { title: title(), name: name.clone() });
            }
            (None, Some(_)) => return Err(SettingError::UnusedStart { title: title() }),
            (Some(_), Some(start)) => {
                let norm = start.config().norm;
                let expected = EncoderConfig { norm, ..self.config.encoder.clone() };
                if *start.config() != expected {
                    return Err(SettingError::OtherStart { title: title() });
                }
            }
            (None, None) => {}
        }
        let (expected, (.., found)) = (self.config.encoder.in_channels, self.data.shape());
        if expected != found {
            return Err(SettingError::Channels { data: self.data.name.clone(), found, expected });
        }
        self.config.encoder.check_images(self.data.shape())?;
        let (images, batch) = (self.data.len(), self.config.batch);
        if images < batch {
            return Err(SettingError::TooFewImages { data: self.data.name.clone(), images, batch });
        }
        Ok(())
    }

    /// The batches from `step` on to the next change of strength, or to the end.
    fn loader(&self, step: u64, steps_per_epoch: u64, shard: Option<&Shard>) -> Result<Loader, TrainError> {
        let epoch = (step / steps_per_epoch) as usize;
        let TrainConfig { method, epochs, .. } = self.config;
        let strength = |epoch| method.strength.map_or(1.0, |strength| strength.at(epoch, *epochs));
        let until = (epoch + 1..*epochs).find(|&later| strength(later) != strength(epoch));
        let shape = self.data.shape();
        let config = LoaderConfig {
            batch: self.config.batch,
            views: method.all_views().iter().map(|view| at_strength(view, strength(epoch), shape)).collect(),
            epochs: until.unwrap_or(*epochs),
            start: (epoch, (step % steps_per_epoch) as usize),
            threads: self.options.loader_threads.max(1),
            bytes: self.device.augment().is_some(),
            part: shard.map_or((0, 1), |shard| (shard.index(), shard.count())),
            ..LoaderConfig::default()
        };
        Ok(Loader::new(self.data.clone(), Key::new(self.config.seed).fold("data"), &config)?)
    }
}
