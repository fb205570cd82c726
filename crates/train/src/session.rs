//! A training under way: what follows from a batch.
//!
//! A step is begun before the next batch is waited for, and ended after that: a device computes while the host brings it
//! what comes next.

use crate::clock::{Clock, Times};
use crate::clusters::clusters;
use crate::error::TrainError;
use crate::health::{gradient_norm, require_finite, warnings};
use crate::method::Plan;
use crate::metrics::{EpochRecord, Event, Record, StepRecord};
use crate::monitor::{Monitor, alignment, uniformity};
use crate::pretrain::{Finish, Pretraining, Trained};
use crate::run::{Run, peak_memory};
use crate::schedule::Schedule;
use crate::state::{Identity, State};
use crate::step::{Networks, Numbers, Repeated, Starts, StepInput, StepOutput, step};
use crate::train_config::Options;
use std::time::Instant;
use tarrl_bound::RepresentationStats;
use tarrl_data::Batch;
use tarrl_encoders::checkpoint::{Metadata, save_encoder};
use tarrl_encoders::{
    BatchNormMode, BnBranch, Encoder, InferenceEncoder, detach, parameters, set_buffers, set_parameters,
    track,
};
use tarrl_tensor::{Array, Key, Tensor};

/// A training under way.
pub(crate) struct Session<'a> {
    training: &'a Pretraining<'a>,
    teacher: Option<InferenceEncoder>,
    /// For each set the cluster of every image of the dataset.
    clusters: Vec<Vec<u32>>,
    monitor: Monitor,
    identity: Identity,
    run: Run,
    state: State,
    steps_per_epoch: u64,
    total: u64,
    seen: Seen,
    began: Instant,
    /// Of the present epoch.
    clock: Clock,
    saved: Instant,
    plan: Plan,
    /// Where the device captures steps.
    repeated: Option<Repeated<'a>>,
}

/// A batch on the device.
pub(crate) struct Prepared {
    /// The images of the plan, each `(n, h, w, c)`.
    views: Vec<Tensor>,
    /// `(n)`: classes.
    labels: Array,
    /// For each set of clusters, `(n)`.
    clusters: Vec<Array>,
    /// `(n)`: the attacks' keys.
    keys: Vec<Key>,
    epoch: usize,
}

/// A step whose work is queued and whose numbers nobody has read.
pub(crate) struct Queued {
    found: StepOutput,
    /// Images of the batch.
    images: usize,
    epoch: usize,
    lr: f64,
    epsilon_scale: f64,
}

/// What the metrics so far say.
#[derive(Default)]
struct Seen {
    epoch: Option<EpochRecord>,
    loss: Option<f64>,
    /// At the end of the first epoch.
    first: Option<RepresentationStats>,
    /// At the end of the present one, when its last step is done.
    now: Representations,
}

/// How the representations of a step lie.
#[derive(Clone, Copy, Default)]
struct Representations {
    observation: RepresentationStats,
    alignment: Option<f64>,
    uniformity: f64,
}

impl<'a> Session<'a> {
    /// The training in its folder, begun anew or taken up where its checkpoint ends.
    pub(crate) fn open(training: &'a Pretraining<'a>) -> Result<Self, TrainError> {
        let Pretraining { config, data, device, .. } = *training;
        let identity = Identity::new(config, data, training.teacher);
        let mut run = Run::open(training.folder)?;
        let mut state = State::new(config, data.classes.len(), device);
        if let Some(path) = run.existing_checkpoint() {
            state.load(&path, device, &identity)?;
        }
        let seen = Seen::of(run.rewind(state.step)?);
        let steps_per_epoch = (data.len() / config.batch) as u64;
        let teacher = training.teacher.map(Encoder::inference);
        let sets = config.method.clusters();
        let clusters = match &teacher {
            Some(teacher) if !sets.is_empty() => {
                clusters(teacher, data, device, &sets, Key::new(config.seed).fold("pseudo-labels"))
            }
            _ => Vec::new(),
        };
        let repeated = Repeated::suits(&state.model, &state.memory).then(Repeated::new);
        Ok(Session {
            training,
            plan: Plan::new(&config.method),
            repeated,
            teacher,
            clusters,
            monitor: Monitor::new(data, device),
            identity,
            run,
            steps_per_epoch,
            total: steps_per_epoch * config.epochs as u64,
            seen,
            began: Instant::now(),
            clock: Clock::new(state.step),
            saved: Instant::now(),
            state,
        })
    }

    /// Finished steps.
    pub(crate) fn done(&self) -> u64 {
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

    /// A batch brought to the device; waited for since `since`.
    pub(crate) fn prepare(&mut self, batch: &Batch, since: Instant) -> Prepared {
        self.clock.waited_since(since);
        let Pretraining { config, data, device, .. } = *self.training;
        let labels = |of: &dyn Fn(usize) -> u32| {
            let labels: Vec<u32> = batch.indices.iter().map(|&index| of(index)).collect();
            Array::new(device, [labels.len()], &labels)
        };
        let key = Key::new(config.seed).fold("attack").fold(batch.epoch);
        Prepared {
            views: batch.on(device).into_iter().map(Tensor::from).collect(),
            labels: labels(&|index| u32::from(data.labels[index])),
            clusters: self.clusters.iter().map(|set| labels(&|index| set[index])).collect(),
            keys: batch.indices.iter().map(|&index| key.fold(index)).collect(),
            epoch: batch.epoch,
        }
    }

    /// What follows from a step whose work is queued: metrics, events, a checkpoint.
    pub(crate) fn end(
        &mut self,
        queued: &Queued,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), TrainError> {
        let options = &self.training.options;
        let record = self.read(queued)?;
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

    /// Writes a checkpoint, and all metrics before it.
    pub(crate) fn save(&mut self, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<(), TrainError> {
        let began = Instant::now();
        self.run.sync()?;
        self.state.save(&self.run.checkpoint(), &self.identity)?;
        self.clock.saved_since(began);
        self.saved = Instant::now();
        on_event(&Event::Saved { step: self.state.step });
        Ok(())
    }

    /// Queues gradients, optimizer and running statistics; on a device nothing of it is waited for.
    pub(crate) fn begin(&mut self, prepared: &Prepared) -> Queued {
        let config = self.training.config;
        let method = &config.method;
        let Prepared { views, labels, clusters, keys, epoch } = prepared;
        let [epsilon_scale, certified_scale] = self.epsilon_scales();
        let share = match method.strength {
            Some(strength) => strength.share(*epoch, config.epochs),
            None => *epoch as f64 / config.epochs as f64,
        };
        let lr = self.learning_rate();
        let state = &mut self.state;
        let input = StepInput {
            views,
            labels,
            clusters,
            memory: &state.memory,
            key: Key::new(config.seed).fold("objective").fold(state.step),
            share,
            epsilon_scale,
            certified_scale,
            keys,
            starts: &Starts::draw(method, &self.plan, views, epsilon_scale, keys),
        };
        let networks =
            Networks { model: &state.model, slow: state.slow.as_ref(), teacher: self.teacher.as_ref() };
        let found = match &mut self.repeated {
            Some(repeated) => repeated.step(&networks, method, &input),
            None => step(&networks, method, &input),
        };
        let moved = state.optimizer.step(&parameters(&state.model), &found.gradients, lr);
        set_parameters(&mut state.model, &moved);
        track(&mut state.model);
        set_buffers(&mut state.model, &found.buffers);
        if let (Some(slow), Some(momentum)) = (&mut state.slow, method.network.momentum) {
            slow.follow(&state.model, momentum.at(state.step, self.total));
            set_buffers(slow.module_mut(), &found.slow_buffers);
        }
        state.memory.remember(method.objective.as_ref(), &found.slow_targets);
        state.step += 1;
        Queued { found, images: keys.len(), epoch: *epoch, lr, epsilon_scale }
    }

    /// What the numbers of a step say, once it is done.
    fn read(&mut self, queued: &Queued) -> Result<StepRecord, TrainError> {
        let Queued { found, images: n, epoch, lr, epsilon_scale } = queued;
        let numbers = found.read();
        let diverged = |(what, value): (String, f64)| TrainError::Diverged {
            step: self.state.step - 1,
            epoch: *epoch as u64,
            what,
            value,
            last: self.seen.loss,
            checkpoint: self.run.existing_checkpoint(),
        };
        let Numbers { loss, objective, regularizer, certified, .. } = numbers;
        require_finite("objective", objective).map_err(diverged)?;
        require_finite("regularizer", regularizer).map_err(diverged)?;
        require_finite("certified term", certified).map_err(diverged)?;
        let gradient_norm = gradient_norm(&self.state.model, &numbers.squares).map_err(diverged)?;
        let state = &mut self.state;
        state.sums.add([loss, objective, regularizer, certified], [found.forward, found.backward]);
        self.seen.loss = Some(loss);
        if state.step.is_multiple_of(self.steps_per_epoch) {
            let features = found.features.as_ref().expect("every method has a term of its objective");
            let view = |view: usize| features.slice(0, view * n, *n);
            self.seen.now = Representations {
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
            embedding_std: numbers.embedding_std,
            feature_std: numbers.feature_std,
            feature_spread: numbers.feature_spread,
        })
    }

    /// The statistics that heads see the encoder with.
    fn kept(&self) -> BnBranch {
        self.training.config.method.network.keeps.unwrap_or_default()
    }

    fn learning_rate(&self) -> f64 {
        let config = self.training.config;
        let warmup = (config.warmup_epochs * self.steps_per_epoch as f64).round() as u64;
        Schedule::new(config.optimizer.lr(), warmup, self.total).at(self.state.step)
    }

    /// ε of the next step as a share of its final value, for the regularizer and the certified term. The ramp is read
    /// at the end of the step: at 0 there would be nothing to attack.
    fn epsilon_scales(&self) -> [f64; 2] {
        let progress = (self.state.step + 1) as f64 / self.total as f64;
        let method = &self.training.config.method;
        [
            method.regularizer.as_ref().map_or(0.0, |r| r.epsilon_scale(progress)),
            method.certified.as_ref().map_or(0.0, |c| c.epsilon_scale(progress)),
        ]
    }

    fn end_epoch(
        &mut self,
        last: &StepRecord,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), TrainError> {
        let Representations { observation, alignment, uniformity } = self.seen.now;
        let first = *self.seen.first.get_or_insert(observation);
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
            knn: self.monitor.knn(&self.state.model.encoder.inference_branch(self.kept())),
            peak_memory: peak_memory(),
        };
        self.run.append(&Record::Epoch(epoch.clone()))?;
        on_event(&Event::Epoch(&epoch));
        self.seen.epoch = Some(epoch);
        self.clock = Clock::new(last.step);
        Ok(())
    }

    /// Leaves the encoder.
    pub(crate) fn finish(self) -> Result<Finish, TrainError> {
        let kept = self.kept();
        let mut model = self.state.model;
        detach(&mut model);
        // Of two sets of batch norm one is left, so that nobody has to know later that there were two.
        if self.training.config.method.network.batch_norm == BatchNormMode::Dual {
            model.encoder = model.encoder.only(kept);
        }
        let config = self.training.config;
        let notes = Metadata::from([
            ("method".into(), config.method.title.clone()),
            ("epochs".into(), config.epochs.to_string()),
            ("seed".into(), config.seed.to_string()),
        ]);
        save_encoder(&self.run.encoder(), &model.encoder, &notes).map_err(TrainError::Save)?;
        let (encoder, heads) = (model.encoder, model.heads);
        Ok(Finish::Trained(Box::new(Trained { encoder, heads, last: self.seen.epoch })))
    }
}

impl Seen {
    fn of(records: Vec<Record>) -> Self {
        let mut seen = Seen::default();
        for record in records {
            match record {
                Record::Step(step) => seen.loss = Some(step.loss),
                Record::Epoch(epoch) => {
                    seen.first.get_or_insert(epoch.observation);
                    seen.epoch = Some(epoch);
                }
                Record::Warning(_) => {}
            }
        }
        seen
    }
}

impl Options {
    fn checkpoint_is_due(&self, step: u64, seconds: f64) -> bool {
        self.checkpoint_every_steps.is_some_and(|every| step.is_multiple_of(every.max(1)))
            || self.checkpoint_every_seconds.is_some_and(|every| seconds >= every)
    }
}
