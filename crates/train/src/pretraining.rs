//! A training as a value: its inputs and its result.

use crate::metrics::EpochRecord;
use crate::train_config::{Options, TrainConfig};
use std::path::Path;
use std::sync::Arc;
use tarrl_data::Dataset;
use tarrl_encoders::Encoder;
use tarrl_tensor::Device;

/// A training to run: [`pretrain`](crate::pretrain) with a teacher and [`Options`].
#[derive(Clone, Debug)]
pub struct Pretraining<'a> {
    /// What determines the result.
    pub config: &'a TrainConfig,
    /// The images. Supervised references train on the labels; for other methods they only serve the kNN monitor.
    pub data: &'a Arc<Dataset>,
    /// The encoder that [`Method::teacher`](crate::Method) names, in evaluation mode; `None` where that names none.
    pub teacher: Option<&'a Encoder>,
    /// The encoder that [`Method::start`](crate::Method) names; `None` where that names none.
    pub start: Option<&'a Encoder>,
    /// Where to compute.
    pub device: &'a Device,
    /// Where to put metrics and checkpoints.
    pub folder: &'a Path,
    /// Options that do not change the result.
    pub options: Options,
}

/// The result of a training.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The encoder, whose parameters track no gradient.
    pub encoder: Encoder,
    /// The metrics of the last epoch.
    pub last: Option<EpochRecord>,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Finish {
    /// All epochs are done.
    Trained(Box<Trained>),
    /// [`Options::stop_after_steps`] or [`Options::stop`] ended it early.
    Stopped {
        /// Finished steps, of which the last checkpoint may know fewer.
        step: u64,
    },
}
