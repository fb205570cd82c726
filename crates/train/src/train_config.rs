//! Training configuration: everything that determines the result of a training.

use crate::method::{AdversaryLoss, Method, MethodError};
use crate::optimizer::{OptimizerConfig, OptimizerError};
use crate::ranges::{Range, RangeError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tarrl_encoders::{EncoderConfig, Precision};
use tarrl_parallel::{Group, MOST_SHARDS};

/// A training: with the images, everything that determines its result to the bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// What is minimized.
    pub method: Method,
    /// The encoder.
    #[serde(default)]
    pub encoder: EncoderConfig,
    /// How gradients become steps.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Passes over the images.
    pub epochs: usize,
    /// Images per step; those left over at the end of an epoch wait for another one.
    pub batch: usize,
    /// Epochs of linear warm-up, before the learning rate falls to 0 on a cosine; may be a fraction.
    #[serde(default)]
    pub warmup_epochs: f64,
    /// Determines the initial values, the order of the images, their views and all attacks.
    #[serde(default)]
    pub seed: u64,
    /// What the encoder computes in; parameters, optimizer, heads and losses are of f32 in any case.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// The equal parts that every batch is cut into, each computed by a thread of its own, on this process or another: a power of two.
    /// Batch norm and objectives still see the whole batch. With the images and the other settings it determines the
    /// bits; the number of processes does not.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shards: usize,
}

fn one() -> usize {
    1
}

fn is_one(shards: &usize) -> bool {
    *shards == 1
}

impl TrainConfig {
    /// Twelve epochs of batches of 256 with AdamW after one epoch of warm-up.
    pub fn new(method: Method) -> Self {
        TrainConfig {
            method,
            encoder: EncoderConfig::default(),
            optimizer: OptimizerConfig::default(),
            epochs: 12,
            batch: 256,
            warmup_epochs: 1.0,
            seed: 0,
            precision: Precision::F32,
            shards: 1,
        }
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// The first setting that is invalid, with the remedy.
    pub fn check(&self) -> Result<(), SettingError> {
        self.method.check()?;
        self.encoder.check()?;
        self.optimizer.check()?;
        let parts = [
            (self.method.certified.is_some(), "certified"),
            (self.method.spectral_norm.is_some(), "spectral_norm"),
        ];
        if let Some((_, part)) =
            parts.into_iter().find(|&(is_there, _)| is_there && !self.encoder.arch.has_intervals())
        {
            return Err(SettingError::Attention { part, arch: self.encoder.arch.name() });
        }
        if self.epochs == 0 {
            return Err(SettingError::NoEpochs);
        }
        let batch = self.batch;
        if batch < 2 {
            return Err(SettingError::Batch { batch });
        }
        let keys = self.method.views.len() * batch;
        if let Some(queue) = self.method.needs().queue.filter(|&queue| queue < keys) {
            return Err(SettingError::Queue { queue, keys });
        }
        if let Some(block) = self.method.needs().block.filter(|&block| !batch.is_multiple_of(block)) {
            return Err(SettingError::Block { block, batch });
        }
        let shards = self.shards;
        let own = batch / shards.max(1);
        let whole = shards.is_power_of_two() && shards <= MOST_SHARDS && batch.is_multiple_of(shards);
        if !whole || (shards > 1 && own < 2) {
            return Err(SettingError::Shards { shards, batch });
        }
        // An adversary ascends the objective of a shard's own images.
        let attacked = self.method.adversary.as_ref().is_some_and(|a| a.ascends == AdversaryLoss::Objective);
        if let Some(block) = self.method.needs().block.filter(|&block| attacked && !own.is_multiple_of(block))
        {
            return Err(SettingError::Block { block, batch: own });
        }
        let (warmup_epochs, epochs) = (self.warmup_epochs, self.epochs as f64);
        if !(0.0..=epochs).contains(&warmup_epochs) {
            return Err(SettingError::Warmup { warmup_epochs, epochs });
        }
        Range::of("pretrain.epochs")?.check("epochs", epochs)?;
        Ok(Range::of("pretrain.batch")?.check("batch", batch as f64)?)
    }
}

/// Settings with which a training cannot begin. Every message names the cause and the remedy.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The method is invalid.
    #[error("method: {0}")]
    Method(#[from] MethodError),
    /// The encoder is invalid.
    #[error(transparent)]
    Encoder(#[from] tarrl_encoders::ConfigError),
    /// The optimizer is invalid.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// The device does not compute in the precision.
    #[error(transparent)]
    Precision(#[from] tarrl_encoders::PrecisionError),
    /// A number is outside of its range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// A part of the method has no rule for attention.
    #[error(
        "`{part}` of the method has no rule for the attention of {arch}; choose another encoder, or leave it out"
    )]
    Attention {
        /// The part, as a file names it.
        part: &'static str,
        /// The name of the architecture.
        arch: &'static str,
    },
    /// There is no epoch.
    #[error("epochs = 0 trains nothing; give at least 1")]
    NoEpochs,
    /// The batch is too small.
    #[error("batch = {batch} has no negatives and no statistics; give at least 2")]
    Batch {
        /// Images per step.
        batch: usize,
    },
    /// The queue is shorter than the keys of one step.
    #[error(
        "a queue of {queue} cannot hold the {keys} keys of a step; make objective.queue larger or batch smaller"
    )]
    Queue {
        /// Its length.
        queue: usize,
        /// Keys of a step.
        keys: usize,
    },
    /// The batch is no multiple of the block of images that the objective treats together.
    #[error(
        "batch = {batch} cannot be cut into blocks of {block}; make it a multiple of objective.block = {block}"
    )]
    Block {
        /// Images of a block.
        block: usize,
        /// Images per step.
        batch: usize,
    },
    /// The batch cannot be cut into the shards.
    #[error(
        "batch = {batch} cannot be cut into {shards} shards; take a power of two, up to 1024, that leaves each shard equally many \
         images, at least 2"
    )]
    Shards {
        /// The shards.
        shards: usize,
        /// Images per step.
        batch: usize,
    },
    /// The processes were connected for another number of shards.
    #[error(
        "the ranks are connected for {connected} shards, but the training has {shards}; give both the same number"
    )]
    Connected {
        /// The shards of the connection.
        connected: usize,
        /// Those of the training.
        shards: usize,
    },
    /// The warm-up is negative or longer than the training.
    #[error("warmup_epochs = {warmup_epochs} has to lie between 0 and epochs = {epochs}")]
    Warmup {
        /// Epochs of warm-up.
        warmup_epochs: f64,
        /// Epochs of the training.
        epochs: f64,
    },
    /// The method names a teacher, and no encoder was given.
    #[error("'{title}' learns from an encoder; train the method `{name}` first and hand it over")]
    MissingTeacher {
        /// The title of the method.
        title: String,
        /// The method that trains the teacher.
        name: String,
    },
    /// An encoder was given, and the method names no teacher.
    #[error("'{title}' names no teacher, but one was handed over; leave it out")]
    UnusedTeacher {
        /// The title of the method.
        title: String,
    },
    /// The method names a start, and no encoder was given.
    #[error("'{title}' starts from an encoder; train the method `{name}` first and hand it over")]
    MissingStart {
        /// The title of the method.
        title: String,
        /// The method that trains the encoder.
        name: String,
    },
    /// An encoder was given, and the method names no start.
    #[error("'{title}' starts at random, but an encoder to start from was handed over; leave it out")]
    UnusedStart {
        /// The title of the method.
        title: String,
    },
    /// The encoder to start from has another configuration.
    #[error(
        "'{title}' cannot start from an encoder of another configuration; train that with the same `encoder`"
    )]
    OtherStart {
        /// The title of the method.
        title: String,
    },
    /// The batch is larger than the dataset.
    #[error("'{data}' has {images} images, which makes no whole batch; make batch = {batch} smaller")]
    TooFewImages {
        /// The name of the dataset.
        data: String,
        /// Its images.
        images: usize,
        /// Images per step.
        batch: usize,
    },
    /// The images have another number of channels than the encoder expects.
    #[error(
        "the images of '{data}' have {found} channels; set encoder.in_channels = {found}, not {expected}"
    )]
    Channels {
        /// The name of the dataset.
        data: String,
        /// Channels of its images.
        found: usize,
        /// Channels that the encoder expects.
        expected: usize,
    },
}

/// Options that change how a training runs, but not its result.
#[derive(Clone)]
pub struct Options {
    /// Steps between two lines of metrics; every epoch has a line in any case.
    pub log_every: u64,
    /// Steps between two checkpoints; every epoch ends with one in any case.
    pub checkpoint_every_steps: Option<u64>,
    /// Seconds after which the next step ends with a checkpoint.
    pub checkpoint_every_seconds: Option<f64>,
    /// Threads that prepare views beside those of the device.
    pub loader_threads: usize,
    /// Whether a training whose representation collapses ends there, with an error.
    pub stop_on_collapse: bool,
    /// Stop after so many steps of this call as if killed: nothing is saved beyond the last checkpoint.
    pub stop_after_steps: Option<u64>,
    /// Asked after each step: whether to stop there, with a checkpoint of that step.
    pub stop: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    /// The shards that this process runs and its connection to those of others; `None` if it runs all. Every process needs the same
    /// settings, the same images and, to resume, the same folder, into which the first alone writes.
    pub group: Option<Arc<Group>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            log_every: 10,
            checkpoint_every_steps: None,
            checkpoint_every_seconds: Some(60.0),
            loader_threads: 1,
            stop_on_collapse: false,
            stop_after_steps: None,
            stop: None,
            group: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("log_every", &self.log_every)
            .field("checkpoint_every_steps", &self.checkpoint_every_steps)
            .field("checkpoint_every_seconds", &self.checkpoint_every_seconds)
            .field("loader_threads", &self.loader_threads)
            .field("stop_on_collapse", &self.stop_on_collapse)
            .field("stop_after_steps", &self.stop_after_steps)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Whether a checkpoint is due after `step` steps, `seconds` after the last one.
    pub(crate) fn checkpoint_is_due(&self, step: u64, seconds: f64) -> bool {
        self.checkpoint_every_steps.is_some_and(|every| step.is_multiple_of(every.max(1)))
            || self.checkpoint_every_seconds.is_some_and(|every| seconds >= every)
    }
}
