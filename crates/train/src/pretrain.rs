//! The pre-training loop.

use crate::error::TrainError;
use crate::metrics::{EpochRecord, Event, Record, StepRecord, WarningRecord};
use crate::run::{Run, peak_memory};
use crate::schedule::Schedule;
use crate::spread::directional_std;
use crate::state::{Identity, State, Sums};
use crate::step::{StepInput, StepOutput, step};
use crate::train_config::{Options, TrainConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tarrl_data::{Batch, Dataset, Loader, LoaderConfig};
use tarrl_encoders::checkpoint::{Metadata, save_encoder};
use tarrl_encoders::{
    BATCH_NORM_MOMENTUM, Encoder, Module, Projector, detach, parameters, set_parameters, track,
};
use tarrl_tensor::{Array, Device, Key, Tensor};

/// Below this [`StepRecord::embedding_std`] at the end of an epoch, embeddings are said to collapse.
pub const COLLAPSED_EMBEDDINGS: f64 = 0.2;

/// Below this [`StepRecord::feature_std`] at the end of an epoch, representations are said to collapse.
pub const COLLAPSED_FEATURES: f64 = 0.02;

/// What a training leaves.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The encoder, constants only.
    pub encoder: Encoder,
    /// The projector, constants only.
    pub projector: Projector,
    /// What the last epoch was like.
    pub last: Option<EpochRecord>,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Finish {
    /// All epochs are done.
    Trained(Box<Trained>),
    /// [`Options::stop_after_steps`] ended it early.
    Stopped {
        /// Finished steps, of which the last checkpoint may know fewer.
        step: u64,
    },
}

/// Trains an encoder without labels: minimises `objective + λ R` over all parameters.
///
/// `folder` receives `metrics.jsonl` (one [`Record`] a line), `checkpoint.safetensors` and in the end
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
    let options = Options { stop_after_steps: None, ..Options::default() };
    match (Pretraining { config, data, device, folder, options }).run(on_event)? {
        Finish::Trained(trained) => Ok(*trained),
        Finish::Stopped { .. } => unreachable!("nothing asked the training to stop"),
    }
}

/// A call of [`pretrain`] with [`Options`].
#[derive(Clone, Debug)]
pub struct Pretraining<'a> {
    /// What determines the result.
    pub config: &'a TrainConfig,
    /// The images; labels are not looked at.
    pub data: &'a Arc<Dataset>,
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
        let config = self.config;
        let identity = Identity::new(config, self.data);
        let mut run = Run::open(self.folder)?;
        let mut state = State::new(config, self.device);
        if let Some(path) = run.existing_checkpoint() {
            state.load(&path, self.device, &identity)?;
        }
        let mut last = run.rewind(state.step)?.into_iter().rev().find_map(|record| match record {
            Record::Epoch(epoch) => Some(epoch),
            _ => None,
        });

        let steps_per_epoch = (self.data.len() / config.batch) as u64;
        let total = steps_per_epoch * config.epochs as u64;
        on_event(&Event::Began { step: state.step, total, steps_per_epoch });
        let clock = Clock::start();
        let (mut epoch_clock, mut saved) = (Clock::start(), Instant::now());
        let (mut epoch_images, mut last_loss) = (0, None);
        let began_at = state.step;
        for batch in self.loader(&state, steps_per_epoch)? {
            let record = self.step(&mut state, &batch, total).map_err(|bad| TrainError::Diverged {
                step: state.step,
                epoch: batch.epoch as u64,
                what: bad.what,
                value: bad.value,
                last: last_loss,
                checkpoint: run.existing_checkpoint(),
            })?;
            last_loss = Some(record.loss);
            epoch_images += batch.indices.len();
            let ends_epoch = state.step.is_multiple_of(steps_per_epoch);
            if ends_epoch || state.step.is_multiple_of(self.options.log_every.max(1)) {
                run.append(&Record::Step(record.clone()))?;
            }
            on_event(&Event::Stepped { record: &record, total, seconds: clock.seconds() });
            if ends_epoch {
                for warning in warnings(&record) {
                    on_event(&Event::Warning(&warning));
                    run.append(&Record::Warning(warning))?;
                }
                let epoch = summarize(&record, &std::mem::take(&mut state.sums), steps_per_epoch);
                let epoch = epoch_clock.timed(epoch, epoch_images);
                run.append(&Record::Epoch(epoch.clone()))?;
                on_event(&Event::Epoch(&epoch));
                (epoch_clock, epoch_images, last) = (Clock::start(), 0, Some(epoch));
            }
            if ends_epoch || self.options.checkpoint_is_due(state.step, saved.elapsed().as_secs_f64()) {
                run.sync()?;
                state.save(&run.checkpoint(), &identity)?;
                saved = Instant::now();
                on_event(&Event::Saved { step: state.step });
            }
            if self.options.stop_after_steps.is_some_and(|most| state.step - began_at >= most)
                && state.step < total
            {
                return Ok(Finish::Stopped { step: state.step });
            }
        }

        let mut model = state.model;
        detach(&mut model);
        let notes = Metadata::from([
            ("method".into(), config.method.title.clone()),
            ("epochs".into(), config.epochs.to_string()),
            ("seed".into(), config.seed.to_string()),
        ]);
        save_encoder(&run.encoder(), &model.encoder, &notes).map_err(TrainError::Save)?;
        Ok(Finish::Trained(Box::new(Trained { encoder: model.encoder, projector: model.projector, last })))
    }

    fn check(&self) -> Result<(), TrainError> {
        self.config.check().map_err(TrainError::Setting)?;
        let (expected, (.., found)) = (self.config.encoder.in_channels, self.data.shape());
        if expected != found {
            let name = &self.data.name;
            return Err(TrainError::Setting(format!(
                "the images of '{name}' have {found} channels; set encoder.in_channels = {found}, not {expected}"
            )));
        }
        Ok(())
    }

    fn loader(&self, state: &State, steps_per_epoch: u64) -> Result<Loader, TrainError> {
        // Where the images do not fill a batch there is no step; the loader says so.
        let per_epoch = steps_per_epoch.max(1);
        let config = LoaderConfig {
            batch: self.config.batch,
            views: self.config.method.all_views(),
            epochs: self.config.epochs,
            start: ((state.step / per_epoch) as usize, (state.step % per_epoch) as usize),
            threads: self.options.loader_threads.max(1),
            ..LoaderConfig::default()
        };
        Ok(Loader::new(self.data.clone(), Key::new(self.config.seed).fold("data"), &config)?)
    }

    /// One step: gradients, optimiser, running statistics.
    fn step(&self, state: &mut State, batch: &Batch, total: u64) -> Result<StepRecord, NotFinite> {
        let config = self.config;
        let upload = |view| Tensor::from(Array::from_ndarray(self.device, view));
        let views: Vec<Tensor> = batch.views.iter().map(|view| upload(view)).collect();
        let key = Key::new(config.seed).fold("attack").fold(batch.epoch);
        let keys: Vec<Key> = batch.indices.iter().map(|&index| key.fold(index)).collect();
        let epsilon_scale = epsilon_scale(config, state.step, total);
        let output =
            step(&state.model, &config.method, &StepInput { views: &views, epsilon_scale, keys: &keys });

        let loss = output.objective + output.weight * output.regularizer;
        require_finite("objective", output.objective)?;
        require_finite("regularizer", output.regularizer)?;
        let gradient_norm = gradient_norm(&state.model, &output.gradients)?;

        let warmup = (config.warmup_epochs * (total as f64 / config.epochs as f64)).round() as u64;
        let lr = Schedule::new(config.optimizer.lr(), warmup, total).at(state.step);
        let moved = state.optimizer.step(&parameters(&state.model), &output.gradients, lr);
        set_parameters(&mut state.model, &moved);
        track(&mut state.model);
        state.model.absorb(&output.pass, BATCH_NORM_MOMENTUM);
        state.step += 1;
        state.sums.add(loss, &output);
        Ok(StepRecord {
            step: state.step,
            epoch: batch.epoch as u64,
            loss,
            objective: output.objective,
            regularizer: output.regularizer,
            lr,
            epsilon_scale,
            gradient_norm,
            embedding_std: directional_std(&output.embeddings),
            feature_std: directional_std(&output.features),
            feature_spread: tarrl_bound::spread(&output.features).item(),
        })
    }
}

impl Options {
    fn checkpoint_is_due(&self, step: u64, seconds: f64) -> bool {
        self.checkpoint_every_steps.is_some_and(|every| step.is_multiple_of(every.max(1)))
            || self.checkpoint_every_seconds.is_some_and(|every| seconds >= every)
    }
}

impl Sums {
    fn add(&mut self, loss: f64, output: &StepOutput) {
        for (sum, value) in self.losses.iter_mut().zip([loss, output.objective, output.regularizer]) {
            *sum += value;
        }
        self.passes[0] += output.forward;
        self.passes[1] += output.backward;
    }
}

/// A quantity that must be finite and is not.
struct NotFinite {
    what: String,
    value: f64,
}

fn require_finite(what: &str, value: f64) -> Result<(), NotFinite> {
    if value.is_finite() { Ok(()) } else { Err(NotFinite { what: what.to_string(), value }) }
}

/// The Euclidean norm of all gradients together; one that is not finite is named.
fn gradient_norm(model: &dyn Module, gradients: &[Tensor]) -> Result<f64, NotFinite> {
    let squares: Vec<f64> = gradients.iter().map(|g| g.square().sum_all().item()).collect();
    let mut result = Ok(());
    let mut remaining = squares.iter();
    model.visit(&mut |name, role, _| {
        if let (true, true, Some(&square)) = (role.is_parameter(), result.is_ok(), remaining.next()) {
            result = require_finite(&format!("squared gradient of {name}"), square);
        }
    });
    result.map(|()| squares.iter().sum::<f64>().sqrt())
}

/// ε of a step as a share of its final value: a ramp that begins above zero, where attacks see nothing.
fn epsilon_scale(config: &TrainConfig, step: u64, total: u64) -> f64 {
    let regularizer = config.method.regularizer.as_ref();
    regularizer.map_or(0.0, |r| r.epsilon_scale((step + 1) as f64 / total as f64))
}

fn summarize(record: &StepRecord, sums: &Sums, steps: u64) -> EpochRecord {
    let [loss, objective, regularizer] = sums.losses.map(|sum| sum / steps as f64);
    let [forward, backward] = sums.passes;
    let (step, epoch) = (record.step, record.epoch);
    EpochRecord { step, epoch, loss, objective, regularizer, forward, backward, ..EpochRecord::default() }
}

fn warnings(record: &StepRecord) -> Vec<WarningRecord> {
    let alarms = [
        ("embedding-collapse", "embeddings", record.embedding_std, COLLAPSED_EMBEDDINGS),
        ("feature-collapse", "representations", record.feature_std, COLLAPSED_FEATURES),
    ];
    let fired = alarms.into_iter().filter(|(.., found, least)| found < least);
    let describe = |(name, what, found, least): (&str, &str, f64, f64)| WarningRecord {
        step: record.step,
        name: name.to_string(),
        message: format!(
            "the {what} of different images point nearly the same way (spread {found:.3}, healthy above {least}); \
             lower the weight of the regularizer or the learning rate"
        ),
    };
    fired.map(describe).collect()
}

struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Clock(Instant::now())
    }

    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    fn timed(&self, epoch: EpochRecord, images: usize) -> EpochRecord {
        let seconds = self.seconds();
        let images_per_second = images as f64 / seconds.max(f64::MIN_POSITIVE);
        EpochRecord { seconds, images_per_second, peak_memory: peak_memory(), ..epoch }
    }
}
