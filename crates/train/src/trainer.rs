//! Trainer: loads a batch, launches its step, finishes it, and ends epochs.
//!
//! A step is launched before the next batch is requested and finished after that, so that a device computes while the
//! host prepares the next batch.

use crate::checks::{gradient_norm, require_finite, warnings};
use crate::clock::{Clock, Times};
use crate::clusters::clusters;
use crate::error::TrainError;
use crate::history::{History, Representations};
use crate::method::{Plan, average_momentum};
use crate::metrics::{EpochRecord, Event, Record, StepRecord};
use crate::model::fixed_projector;
use crate::monitor::{Monitor, alignment, uniformity};
use crate::pretraining::{Finish, Pretraining, Trained};
use crate::run::{Run, peak_memory};
use crate::schedule::Schedule;
use crate::state::{Identity, State};
use crate::step::{
    CapturedStep, InitialPoints, Networks, ShardedBatch, StepInput, StepMetrics, StepOutput, compute_step,
};
use std::time::Instant;
use tarrl_bound::RepresentationStats;
use tarrl_data::Batch;
use tarrl_encoders::checkpoint::{Metadata, save_encoder};
use tarrl_encoders::{
    BatchNormMode, BnBranch, Buffers, Ema, Encoder, InferenceEncoder, Projector, detach, ema, parameters,
    set_buffers, set_parameters, track,
};
use tarrl_parallel::{ParallelError, Shard};
use tarrl_tensor::{Array, Key, Tensor};

/// A training in progress.
pub(crate) struct Trainer<'a> {
    training: &'a Pretraining<'a>,
    teacher: Option<InferenceEncoder>,
    /// The projector of a distillation, which is never trained.
    projector: Option<Projector>,
    /// For each set the cluster of every image of the dataset.
    clusters: Vec<Vec<u32>>,
    monitor: Monitor,
    identity: Identity,
    run: Run,
    state: State,
    steps_per_epoch: u64,
    total: u64,
    history: History,
    began: Instant,
    /// Of the present epoch.
    clock: Clock,
    saved: Instant,
    plan: Plan,
    /// The captured step, on a device that captures.
    captured: Option<CapturedStep<'a>>,
    /// The part of every batch that is trained on here, if there are several.
    shard: Option<Shard>,
}

/// A batch on the device.
pub(crate) struct DeviceBatch {
    /// The images of the plan, each `(n, h, w, c)`.
    views: Vec<Tensor>,
    /// `(n)`: classes.
    labels: Array,
    /// For each set of clusters, `(n)`.
    clusters: Vec<Array>,
    /// Classes of the images of all shards.
    all_labels: Option<Array>,
    /// `(n)`: the attacks' keys.
    keys: Vec<Key>,
    epoch: usize,
}

/// A step whose work is queued and whose metrics have not been read.
pub(crate) struct LaunchedStep {
    output: StepOutput,
    /// Images of the batch, of all shards.
    images: usize,
    epoch: usize,
    lr: f64,
    epsilon_scale: f64,
}

impl<'a> Trainer<'a> {
    /// Opens the training in its folder, from its checkpoint if there is one, for a shard of every batch.
    ///
    /// Only the first shard writes into the folder.
    pub(crate) fn open(training: &'a Pretraining<'a>, shard: Option<&Shard>) -> Result<Self, TrainError> {
        let Pretraining { config, data, device, .. } = *training;
        let identity = Identity::new(training);
        let steps_per_epoch = (data.len() / config.batch) as u64;
        let total = steps_per_epoch * config.epochs as u64;
        let first = shard.is_none_or(Shard::is_first);
        let mut run = if first { Run::open(training.folder)? } else { Run::read_only(training.folder) };
        agree(shard, 0, "settings or images", || identity.hash())?;
        let mut state = State::new(config, data.classes.len(), training.start, device);
        if let Some(path) = run.existing_checkpoint() {
            state.load(&path, device, &identity, total)?;
        }
        agree(shard, state.step, "the checkpoint", || state.hash())?;
        let history = History::of(run.rewind(state.step)?);
        let teacher = training.teacher.map(Encoder::inference);
        let sets = config.method.clusters();
        let clusters = match &teacher {
            Some(teacher) if !sets.is_empty() => {
                clusters(teacher, data, device, &sets, Key::new(config.seed).fold("pseudo-labels"))
            }
            _ => Vec::new(),
        };
        let captured = CapturedStep::suits(&state.model, state.loss.is_some()) && shard.is_none();
        let captured = captured.then(CapturedStep::new);
        Ok(Trainer {
            training,
            plan: Plan::new(&config.method),
            captured,
            teacher,
            projector: fixed_projector(config, state.model.encoder.dim(), device),
            clusters,
            monitor: Monitor::new(data, device),
            shard: shard.cloned(),
            identity,
            run,
            steps_per_epoch,
            total,
            history,
            began: Instant::now(),
            clock: Clock::new(state.step),
            saved: Instant::now(),
            state,
        })
    }

    /// Finished steps.
    pub(crate) fn step(&self) -> u64 {
        self.state.step
    }

    /// Steps in all.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Steps of an epoch.
    pub(crate) fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// Copies a batch to the device. It was requested at `requested`.
    pub(crate) fn load_batch(&mut self, batch: &Batch, requested: Instant) -> DeviceBatch {
        self.clock.waited_since(requested);
        let Pretraining { config, data, device, .. } = *self.training;
        let labels = |of: &dyn Fn(usize) -> u32| {
            let labels: Vec<u32> = batch.indices.iter().map(|&index| of(index)).collect();
            Array::new(device, [labels.len()], &labels)
        };
        let key = Key::new(config.seed).fold("attack").fold(batch.epoch);
        let all_labels = self.shard.as_ref().filter(|_| config.method.uses_labels()).map(|shard| {
            let own = batch.indices.iter().flat_map(|&index| u32::from(data.labels[index]).to_le_bytes());
            let all = shard.gather(&own.collect::<Vec<u8>>());
            let all: Vec<u32> = all.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)).collect();
            Array::new(device, [all.len()], &all)
        });
        DeviceBatch {
            all_labels,
            views: batch.on(device).into_iter().map(Tensor::from).collect(),
            labels: labels(&|index| u32::from(data.labels[index])),
            clusters: self.clusters.iter().map(|set| labels(&|index| set[index])).collect(),
            keys: batch.indices.iter().map(|&index| key.fold(index)).collect(),
            epoch: batch.epoch,
        }
    }

    /// Launches the step of a batch: samples the attacks' initial points, computes the gradients, updates parameters, running
    /// statistics and state. On a device the work is queued, and nothing is waited for.
    ///
    /// # Errors
    /// If another shard ended: then the state is that of the step before, and is saved.
    pub(crate) fn launch_step(
        &mut self,
        batch: &DeviceBatch,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<LaunchedStep, TrainError> {
        let config = self.training.config;
        let method = &config.method;
        let DeviceBatch { views, labels, clusters, all_labels, keys, epoch } = batch;
        let [epsilon_scale, weight_scale, certified_scale] = self.scales();
        let share = match method.strength {
            Some(strength) => strength.share(*epoch, config.epochs),
            None => *epoch as f64 / config.epochs as f64,
        };
        let lr = self.learning_rate();
        let state = &mut self.state;

        let dim = state.model.encoder.dim();
        let initial_points = InitialPoints::sample(method, &self.plan, views, epsilon_scale, keys, dim);
        let input = StepInput {
            views,
            labels,
            clusters,
            state: state.loss.as_deref(),
            key: Key::new(config.seed).fold("objective").fold(state.step),
            share,
            epsilon_scale,
            weight_scale,
            certified_scale,
            keys,
            initial_points: &initial_points,
            batch: self
                .shard
                .as_ref()
                .map(|shard| ShardedBatch { shard, labels: all_labels.as_ref().unwrap_or(labels) }),
        };
        let networks = Networks {
            model: &state.model,
            ema: state.ema.as_ref(),
            teacher: self.teacher.as_ref(),
            projector: self.projector.as_ref(),
        };
        let output = match &mut self.captured {
            Some(captured) => captured.step(&networks, method, &input),
            None => compute_step(&networks, method, &input),
        };
        if let Some(Err(source)) = self.shard.as_ref().map(Shard::check) {
            return Err(self.lost(source, on_event)?);
        }
        let state = &mut self.state;

        let updated = state.optimizer.step(&parameters(&state.model), &output.gradients, lr);
        set_parameters(&mut state.model, &updated);
        track(&mut state.model);
        set_buffers(&mut state.model, &output.buffers);
        if let (Some(ema), Some(momentum)) = (&mut state.ema, method.network.momentum) {
            ema.follow(&state.model, momentum.at(state.step, self.total));
            set_buffers(ema.module_mut(), &output.ema_buffers);
        }
        if let (Some(average), Some(most)) = (&mut state.average, method.network.average) {
            let momentum = average_momentum(most, state.step);
            ema(average, &state.model.encoder, &Ema { momentum, buffers: Buffers::Average });
        }
        if let (Some(loss), Some(objective)) = (&mut state.loss, method.loss()) {
            objective.update(loss.as_mut(), &output.ema_targets);
        }
        state.step += 1;
        let images = keys.len() * self.shard.as_ref().map_or(1, Shard::count);
        Ok(LaunchedStep { output, images, epoch: *epoch, lr, epsilon_scale })
    }

    /// The error of a training whose shards ended together, after a checkpoint of the last step that all finished.
    fn lost(
        &mut self,
        source: ParallelError,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<TrainError, TrainError> {
        self.save(on_event)?;
        let checkpoint = Some(self.run.checkpoint()).filter(|_| self.run.writes());
        Ok(TrainError::Parallel { source, step: self.state.step, checkpoint })
    }

    /// Whether all shards stop after this step, because one is asked to.
    ///
    /// # Errors
    /// As [`launch_step`](Trainer::launch_step).
    pub(crate) fn agree_to_stop(
        &mut self,
        asked: bool,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<bool, TrainError> {
        let Some(shard) = &self.shard else { return Ok(asked) };
        let stop = shard.any(asked);
        match shard.check() {
            Ok(()) => Ok(stop),
            Err(source) => Err(self.lost(source, on_event)?),
        }
    }

    /// Finishes a launched step: reads its metrics, reports events, ends an epoch, writes a checkpoint.
    pub(crate) fn finish_step(
        &mut self,
        launched: &LaunchedStep,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), TrainError> {
        let options = &self.training.options;
        let record = self.record(launched)?;
        let ends_epoch = self.state.step.is_multiple_of(self.steps_per_epoch);
        if ends_epoch || self.state.step.is_multiple_of(options.log_every.max(1)) {
            self.run.append(&Record::Step(record.clone()))?;
        }
        let seconds = self.began.elapsed().as_secs_f64();
        on_event(&Event::Stepped { record: &record, total: self.total, seconds });
        if ends_epoch {
            self.end_epoch(&record, on_event)?;
        }
        if ends_epoch || options.checkpoint_is_due(self.state.step, self.saved.elapsed().as_secs_f64()) {
            self.save(on_event)?;
        }
        Ok(())
    }

    /// The record of a launched step, which is waited for. Ends with an error if a value is not finite.
    fn record(&mut self, launched: &LaunchedStep) -> Result<StepRecord, TrainError> {
        let LaunchedStep { output, images: n, epoch, lr, epsilon_scale } = launched;
        let metrics = output.read();
        let diverged = |(what, value): (String, f64)| TrainError::Diverged {
            step: self.state.step - 1,
            epoch: *epoch as u64,
            what,
            value,
            remedy: self.training.config.method.loss().and_then(|loss| loss.remedy()),
            last: self.history.loss,
            checkpoint: self.run.existing_checkpoint(),
        };
        let StepMetrics { loss, objective, regularizer, certified, .. } = metrics;
        require_finite("objective", objective).map_err(diverged)?;
        require_finite("regularizer", regularizer).map_err(diverged)?;
        require_finite("certified term", certified).map_err(diverged)?;
        // Rows of length one hide an overflow: divided by an infinite length they are zero, and so is their gradient.
        require_finite("spread of the representations", metrics.feature_spread).map_err(diverged)?;
        let gradient_norm = gradient_norm(&self.state.model, &metrics.squares).map_err(diverged)?;
        let state = &mut self.state;
        state
            .sums
            .add([loss, objective, regularizer, certified], [output.passes.forward, output.passes.backward]);
        self.history.loss = Some(loss);
        if state.step.is_multiple_of(self.steps_per_epoch) {
            let features = output.features.as_ref().expect("every method has a term of its objective");
            let view = |view: usize| features.slice(0, view * n, *n);
            self.history.now = Representations {
                observation: RepresentationStats::of(regularizer, features),
                alignment: (features.shape()[0] >= 2 * n).then(|| alignment(&view(0), &view(1))),
                uniformity: uniformity(&view(0)),
            };
        }
        Ok(StepRecord {
            step: state.step,
            epoch: *epoch as u64,
            loss,
            objective,
            regularizer,
            certified,
            lr: *lr,
            epsilon_scale: *epsilon_scale,
            gradient_norm,
            embedding_std: metrics.embedding_std,
            feature_std: metrics.feature_std,
            feature_spread: metrics.feature_spread,
        })
    }

    /// Writes a checkpoint, and all metrics before it.
    pub(crate) fn save(&mut self, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<(), TrainError> {
        if !self.run.writes() {
            self.saved = Instant::now();
            return Ok(());
        }
        let began = Instant::now();
        self.run.sync()?;
        self.state.save(&self.run.checkpoint(), &self.identity)?;
        self.clock.saved_since(began);
        self.saved = Instant::now();
        on_event(&Event::Saved { step: self.state.step });
        Ok(())
    }

    /// The set of batch norm that the result keeps.
    fn kept(&self) -> BnBranch {
        self.training.config.method.network.keeps.unwrap_or_default()
    }

    fn learning_rate(&self) -> f64 {
        let config = self.training.config;
        let warmup = (config.warmup_epochs * self.steps_per_epoch as f64).round() as u64;
        Schedule::new(config.optimizer.lr(), warmup, self.total).at(self.state.step)
    }

    /// ε and λ of the regularizer and ε of the certified term in the next step, as shares of their final values. Ramps are
    /// read at the end of the step: at 0 there would be nothing to attack.
    fn scales(&self) -> [f64; 3] {
        let progress = (self.state.step + 1) as f64 / self.total as f64;
        let method = &self.training.config.method;
        [
            method.regularizer.as_ref().map_or(0.0, |r| r.epsilon_scale(progress)),
            method.regularizer.as_ref().map_or(0.0, |r| r.weight_scale(progress)),
            method.certified.as_ref().map_or(0.0, |c| c.epsilon_scale(progress)),
        ]
    }

    fn end_epoch(
        &mut self,
        last: &StepRecord,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), TrainError> {
        agree(self.shard.as_ref(), self.state.step, "parameters", || self.state.hash())?;
        let Representations { observation, alignment, uniformity } = self.history.now;
        let first = *self.history.first.get_or_insert(observation);
        let projects = self.training.config.method.compares_embeddings();
        for warning in warnings(last, projects, &observation, &first) {
            on_event(&Event::Warning(&warning));
            self.run.append(&Record::Warning(warning.clone()))?;
            if self.training.options.stop_on_collapse && warning.name.ends_with("collapse") {
                return Err(TrainError::Collapsed {
                    step: last.step,
                    epoch: last.epoch,
                    name: warning.name,
                    message: warning.message,
                    checkpoint: self.run.existing_checkpoint(),
                });
            }
        }
        let sums = std::mem::take(&mut self.state.sums);
        let [loss, objective, regularizer, certified] =
            sums.losses.map(|sum| sum / self.steps_per_epoch as f64);
        let [forward, backward] = sums.passes;
        let Times { steps, seconds, waiting, saving } = self.clock.read(last.step);
        let images = steps * self.training.config.batch as u64;
        let epoch = EpochRecord {
            step: last.step,
            epoch: last.epoch,
            loss,
            objective,
            regularizer,
            certified,
            forward,
            backward,
            seconds,
            images_per_second: images as f64 / seconds,
            waiting,
            saving,
            observation,
            alignment,
            uniformity,
            knn: if self.run.writes() {
                self.monitor.knn(&self.state.result().inference_branch(self.kept()))
            } else {
                0.0
            },
            peak_memory: peak_memory(),
        };
        self.run.append(&Record::Epoch(epoch.clone()))?;
        on_event(&Event::Epoch(&epoch));
        self.history.epoch = Some(epoch);
        self.clock = Clock::new(last.step);
        Ok(())
    }

    /// Writes the encoder and returns it.
    pub(crate) fn finish(self) -> Result<Finish, TrainError> {
        let kept = self.kept();
        let mut encoder = self.state.result().clone();
        detach(&mut encoder);
        // Of two sets of batch norm only one is kept, so that the result is an ordinary encoder.
        if self.training.config.method.network.batch_norm == BatchNormMode::Dual {
            encoder = encoder.only(kept);
        }
        let config = self.training.config;
        let notes = Metadata::from([
            ("method".into(), config.method.title.clone()),
            ("epochs".into(), config.epochs.to_string()),
            ("seed".into(), config.seed.to_string()),
        ]);
        if self.run.writes() {
            save_encoder(&self.run.encoder(), &encoder, &notes).map_err(TrainError::Save)?;
        }
        // Nobody ends well before the files are there.
        agree(self.shard.as_ref(), self.state.step, "an end", || self.state.hash())?;
        Ok(Finish::Trained(Box::new(Trained { encoder, last: self.history.epoch })))
    }
}

/// Makes sure that all shards have the same value of something; the hash is not computed without shards.
fn agree(
    shard: Option<&Shard>,
    step: u64,
    what: &str,
    hash: impl FnOnce() -> [u8; 32],
) -> Result<(), TrainError> {
    let Some(shard) = shard else { return Ok(()) };
    let failed = |source| TrainError::Parallel { source, step, checkpoint: None };
    shard.agree(what, &hash()).map_err(failed)
}
