//! The pre-training loop.

use crate::error::TrainError;
use crate::method::painted;
use crate::metrics::{EpochRecord, Event};
use crate::model::Heads;
use crate::session::Session;
use crate::train_config::{Options, TrainConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tarrl_data::{Dataset, Loader, LoaderConfig};
use tarrl_encoders::Encoder;
use tarrl_tensor::{Device, Key};

/// What a training leaves.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The encoder, constants only.
    pub encoder: Encoder,
    /// The heads of the objective, constants only.
    pub heads: Heads,
    /// What the last epoch was like.
    pub last: Option<EpochRecord>,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Finish {
    /// All epochs are done.
    Trained(Box<Trained>),
    /// [`Options::stop_after_steps`] or [`Options::stop_at`] ended it early.
    Stopped {
        /// Finished steps, of which the last checkpoint may know fewer.
        step: u64,
    },
}

/// Trains an encoder without labels: minimizes `objective + λ R` over all parameters.
///
/// `folder` receives `metrics.jsonl` (one [`Record`](crate::Record) a line), `checkpoint.safetensors` and in the end
/// `encoder.safetensors`. If a checkpoint of the same training is there, the training goes on from it and
/// ends with the same bits as if it had never been interrupted, for any number of threads of `device`.
///
/// # Errors
/// Settings that make no sense, a folder that cannot be written, a damaged or foreign checkpoint, or a
/// training that diverges. The last good checkpoint is kept in every case.
pub fn pretrain(
    config: &TrainConfig,
    data: &Arc<Dataset>,
    device: &Device,
    folder: &Path,
    on_event: &mut dyn FnMut(&Event<'_>),
) -> Result<Trained, TrainError> {
    let options = Options::default();
    match (Pretraining { config, data, teacher: None, device, folder, options }).run(on_event)? {
        Finish::Trained(trained) => Ok(*trained),
        Finish::Stopped { .. } => unreachable!("nothing asked the training to stop"),
    }
}

/// A call of [`pretrain`] with [`Options`].
#[derive(Clone, Debug)]
pub struct Pretraining<'a> {
    /// What determines the result.
    pub config: &'a TrainConfig,
    /// The images. Labels are looked at by labeled references, and to watch the others.
    pub data: &'a Arc<Dataset>,
    /// The encoder that [`Method::teacher`](crate::Method) names, at rest; `None` where that names none.
    pub teacher: Option<&'a Encoder>,
    /// Where to compute.
    pub device: &'a Device,
    /// Where to put metrics and checkpoints.
    pub folder: &'a Path,
    /// What does not change the result.
    pub options: Options,
}

impl Pretraining<'_> {
    /// Trains, or goes on from the checkpoint in the folder.
    ///
    /// # Errors
    /// As [`pretrain`].
    pub fn run(&self, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<Finish, TrainError> {
        self.check()?;
        let mut session = Session::open(self)?;
        let (began, total, steps_per_epoch) = (session.done(), session.total(), session.steps_per_epoch());
        on_event(&Event::Began { step: began, total, steps_per_epoch });
        loop {
            let mut loader = self.loader(session.done(), steps_per_epoch)?;
            let mut prepare = |session: &mut Session<'_>| {
                let asked = Instant::now();
                loader.next().map(|batch| session.prepare(&batch, asked))
            };
            let mut next = prepare(&mut session);
            while let Some(batch) = next {
                let queued = session.begin(&batch);
                drop(batch);
                next = prepare(&mut session);
                session.end(&queued, on_event)?;
                let step = session.done();
                if self.options.stop_after_steps.is_some_and(|most| step - began >= most) && step < total {
                    return Ok(Finish::Stopped { step });
                }
                if self.options.stop_at.is_some_and(|moment| Instant::now() >= moment) && step < total {
                    session.save(on_event)?;
                    return Ok(Finish::Stopped { step });
                }
            }
            if session.done() >= total {
                return session.finish();
            }
        }
    }

    fn check(&self) -> Result<(), TrainError> {
        self.config.check().map_err(TrainError::Setting)?;
        self.config.precision.check(self.device).map_err(|error| TrainError::Setting(error.to_string()))?;
        if self.config.method.teacher.is_some() != self.teacher.is_some() {
            let title = &self.config.method.title;
            return Err(TrainError::Setting(match &self.config.method.teacher {
                Some(name) => format!(
                    "'{title}' learns from an encoder; train the method `{name}` first and hand it over"
                ),
                None => format!("'{title}' names no teacher, but one was handed over; leave it out"),
            }));
        }
        let (expected, (.., found)) = (self.config.encoder.in_channels, self.data.shape());
        if expected != found {
            let name = &self.data.name;
            return Err(TrainError::Setting(format!(
                "the images of '{name}' have {found} channels; set encoder.in_channels = {found}, not {expected}"
            )));
        }
        Ok(())
    }

    /// The batches from `step` on to the next change of strength, or to the end.
    fn loader(&self, step: u64, steps_per_epoch: u64) -> Result<Loader, TrainError> {
        // Where the images do not fill a batch there is no step; the loader says so.
        let per_epoch = steps_per_epoch.max(1);
        let epoch = (step / per_epoch) as usize;
        let TrainConfig { method, epochs, .. } = self.config;
        let strength = |epoch| method.strength.map_or(1.0, |strength| strength.at(epoch, *epochs));
        let until = (epoch + 1..*epochs).find(|&later| strength(later) != strength(epoch));
        let shape = self.data.shape();
        let config = LoaderConfig {
            batch: self.config.batch,
            views: method.all_views().iter().map(|view| painted(view, strength(epoch), shape)).collect(),
            epochs: until.unwrap_or(*epochs),
            start: (epoch, (step % per_epoch) as usize),
            threads: self.options.loader_threads.max(1),
            bytes: self.device.augment().is_some(),
            ..LoaderConfig::default()
        };
        Ok(Loader::new(self.data.clone(), Key::new(self.config.seed).fold("data"), &config)?)
    }
}
