#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! | part | in a file | choices |
//! |---|---|---|
//! | views | `views`, `strength` | [`View`](tarrl_data::augment::View), of constant or falling [`Strength`] |
//! | objective | `objective` | any of [`Objective`](tarrl_objectives::Objective), with labels or without |
//! | adversary | `[adversary]` | an [`Adversary`]: its loss, the views it perturbs, the network it attacks, how the results enter |
//! | regularizer | `[regularizer]`, `[certified]`, `[spectral_norm]` | with an attack of its own or the adversary's; a [`Regularizer`](tarrl_bound::Regularizer), an [`IbpLoss`], a [`SpectralNorm`] |
//! | network | `projector`, `[network]` | [`NetworkConfig`]: predictor, momentum network, one or two sets of batch norm |
//! | start | `start` | another method's encoder, which the encoder starts as |
//! | teacher | `teacher` | another method's encoder, for [`Distillation`] or [`PseudoLabels`] |
//!
//! Parts that do not go together are refused when the file is read, with the reason. A [`TrainConfig`] and the images
//! determine the result to the bit, for any number of threads, interrupted or not.
//!
//! The learning rate warms up linearly and falls on a cosine; [`Optimizer`] is SGD with momentum, LARS or AdamW. Only the
//! run folder, method files and [`config::read_toml`] touch the file system.
//!
//! One step, in the order of the code: `Trainer::load_batch` and `launch_step` (sample the attacks' initial points and noise, compute
//! targets, adversarial views, terms and gradients, update the parameters), then `finish_step`, which reads the metrics
//! once, after the next batch has been requested.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod batch_pgd;
mod checks;
mod clock;
mod clusters;
mod collapse;
pub mod config;
mod ema_model;
mod error;
mod history;
mod ibp_loss;
mod method;
mod metrics;
mod model;
mod monitor;
mod optimizer;
mod pretrain;
mod pretraining;
mod ranges;
mod run;
mod schedule;
mod sharded;
mod state;
mod step;
mod train_config;
mod trainer;

pub use error::TrainError;
pub use ibp_loss::{CertifiedContrastive, IbpError, IbpLoss};
pub use method::{
    Adversary, AdversaryCombine, AdversaryLoss, AdversaryReference, AdversaryView, Distillation,
    DistillationLoss, EncoderMode, Invariance, Method, MethodError, MomentumConfig, NetworkConfig,
    NoiseConfig, NoiseUnit, PseudoLabels, SpectralNorm, Strength,
};
pub use metrics::{EpochRecord, Event, Record, StepRecord, WarningRecord};
pub use optimizer::{
    AdamW, Lars, LarsForm, Optimizer, OptimizerConfig, OptimizerError, Parameter, RestoreError, Sgd,
};
pub use pretrain::pretrain;
pub use pretraining::{Finish, Pretraining, Trained};
pub use ranges::{RANGES, Range, RangeError, check_ranges};
pub use train_config::{Options, SettingError, TrainConfig};
