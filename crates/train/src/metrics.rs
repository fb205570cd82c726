//! Metrics records of a training, as lines of JSON, and events for a progress display.

use serde::{Deserialize, Serialize};
use tarrl_bound::RepresentationStats;

/// A line of `metrics.jsonl`. Lines are in the order of their steps; `step` counts finished steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// Some steps have one.
    Step(StepRecord),
    /// Every epoch has one.
    Epoch(EpochRecord),
    /// A warning that does not end the training.
    Warning(WarningRecord),
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Finished steps, this one included.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// What is minimized: objective + λ·regularizer, and the certified term with its own factor.
    pub loss: f64,
    /// The self-supervised loss.
    pub objective: f64,
    /// R of the batch at the ε of this step, with the statistics of the batch, so that it differs a little from
    /// R of the finished encoder, which has running statistics; 0 without a regularizer.
    pub regularizer: f64,
    /// The certified term of the batch at the ε of this step; 0 without one.
    #[serde(default)]
    pub certified: f64,
    /// The learning rate.
    pub lr: f64,
    /// ε of this step as a share of its final value; 0 without a regularizer.
    pub epsilon_scale: f64,
    /// Euclidean norm of the gradient of the loss in all parameters.
    pub gradient_norm: f64,
    /// √d times the mean over dimensions of the standard deviation of the normalized embeddings: near 1 if
    /// they fill the sphere, 0 at collapse. Of the representations where nothing is projected.
    pub embedding_std: f64,
    /// The same for the representations. Being positive they fill less of the sphere.
    pub feature_std: f64,
    /// Mean distance of the representations from their mean: the scale that R is relative to.
    pub feature_spread: f64,
}

/// One epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Finished steps.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Mean loss of the steps.
    pub loss: f64,
    /// Mean self-supervised loss.
    pub objective: f64,
    /// Mean R.
    pub regularizer: f64,
    /// Mean certified term.
    #[serde(default)]
    pub certified: f64,
    /// Images that went forward through the encoder, views and points of attacks counted one by one.
    pub forward: u64,
    /// Images that a gradient went back through.
    pub backward: u64,
    /// Wall time in seconds, since the epoch began or was resumed.
    pub seconds: f64,
    /// Images of the dataset per second in that time.
    pub images_per_second: f64,
    /// Seconds of that time that the host waited for the next batch, while a device computes the step before: where the host
    /// computes, more loader threads would save them.
    #[serde(default)]
    pub waiting: f64,
    /// Seconds of that time in which checkpoints were written.
    #[serde(default)]
    pub saving: f64,
    /// Size and shape of the representations in the last step, with its R.
    #[serde(default)]
    pub observation: RepresentationStats,
    /// Mean squared distance of the unit representations of the first two views in the last step, if there are two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<f64>,
    /// `ln mean e^{−2‖·‖²}` over pairs of unit representations in the last step: 0 at collapse, else lower.
    #[serde(default)]
    pub uniformity: f64,
    /// Share of some training images, apart from the others, that their nearest neighbors give the right class.
    #[serde(default)]
    pub knn: f64,
    /// Most memory that the process has held so far, in bytes, where the system says.
    pub peak_memory: Option<u64>,
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarningRecord {
    /// Finished steps.
    pub step: u64,
    /// Its name.
    pub name: String,
    /// The observation and the remedy.
    pub message: String,
}

/// Events for a progress display.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The training begins, or resumes, after `step` of `total` steps.
    Began {
        /// Finished steps.
        step: u64,
        /// Steps in all.
        total: u64,
        /// Steps of an epoch.
        steps_per_epoch: u64,
    },
    /// A step is done.
    Stepped {
        /// Its metrics.
        record: &'a StepRecord,
        /// Steps in all.
        total: u64,
        /// Seconds since this call began; with the steps since then, what the rest will take.
        seconds: f64,
    },
    /// An epoch is done.
    Epoch(&'a EpochRecord),
    /// A checkpoint has been written.
    Saved {
        /// Finished steps in it.
        step: u64,
    },
    /// A warning.
    Warning(&'a WarningRecord),
}

impl Record {
    /// Finished steps.
    pub fn step(&self) -> u64 {
        match self {
            Record::Step(r) => r.step,
            Record::Epoch(r) => r.step,
            Record::Warning(r) => r.step,
        }
    }
}
