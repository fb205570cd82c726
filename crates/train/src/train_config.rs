//! Everything that determines the result of a training.

use crate::method::Method;
use crate::optimizer::OptimizerConfig;
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tarrl_encoders::{EncoderConfig, Precision};

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
        }
    }

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// The first setting that does not, with the remedy.
    pub fn check(&self) -> Result<(), String> {
        self.method.check().map_err(|reason| format!("method: {reason}"))?;
        self.encoder.check().map_err(|error| error.to_string())?;
        self.optimizer.check()?;
        if self.epochs == 0 {
            return Err("epochs = 0 trains nothing; give at least 1".into());
        }
        if self.batch < 2 {
            return Err(format!(
                "batch = {} has no negatives and no statistics; give at least 2",
                self.batch
            ));
        }
        let keys = self.method.views.len() * self.batch;
        if let Some(queue) = self.method.needs().queue.filter(|&queue| queue < keys) {
            return Err(format!(
                "a queue of {queue} cannot hold the {keys} keys of a step; make objective.queue larger or batch smaller"
            ));
        }
        let epochs = self.epochs as f64;
        if !(0.0..=epochs).contains(&self.warmup_epochs) {
            let found = self.warmup_epochs;
            return Err(format!("warmup_epochs = {found} has to lie between 0 and epochs = {epochs}"));
        }
        Ok(())
    }
}

/// What changes how a training runs, but not its result.
#[derive(Clone, Debug, PartialEq)]
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
    /// Stop at the first step that ends after this moment, with a checkpoint of that step.
    pub stop_at: Option<Instant>,
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
            stop_at: None,
        }
    }
}
