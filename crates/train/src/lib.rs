//! Pre-training of robust encoders: methods as compositions, optimizers, schedules, and the training loop.
//!
//! An encoder `f` with a projector `g` is trained without labels to minimize
//!
//! ```text
//! objective(g(f(view₁)), g(f(view₂))) + λ · R,    R = mean_i D(f(x_i), f(x'_i)),
//! x'_i = argmax over the ball around x_i of D(f(x_i), ·), found by a few steps of an attack.
//! ```
//!
//! A [`Method`], read from a file, names objective, views and `R`. It is a composition of
//!
//! | part | in a file | choices |
//! |---|---|---|
//! | views | `views`, `strength` | [`View`](tarrl_data::augment::View), of constant or falling [`Strength`] |
//! | objective | `objective` | any of [`Objective`](tarrl_objectives::Objective), with labels or without |
//! | adversary | `[adversary]` | an [`Adversary`]: its loss, the views it perturbs, the network it attacks, how the results enter |
//! | regularizer | `[regularizer]`, `[certified]` | a [`Regularizer`](tarrl_bound::Regularizer), an [`IbpLoss`] |
//! | network | `projector`, `[network]` | [`NetworkConfig`]: predictor, momentum network, one or two sets of batch norm |
//! | teacher | `teacher` | another method's encoder, for [`Distillation`] or [`PseudoLabels`] |
//!
//! Parts that do not go together are refused when the file is read, with the reason. A [`TrainConfig`] and the images
//! determine the result to the bit, for any number of threads, interrupted or not.
//!
//! ```
//! use std::sync::Arc;
//! use tarrl_train::{Event, Method, TrainConfig, pretrain};
//! # use tarrl_encoders::{EncoderConfig, ProjectorConfig};
//! # fn images() -> tarrl_data::Dataset {
//! #     let images = ndarray::Array4::from_shape_fn((16, 8, 8, 1), |(i, y, x, _)| (i * 7 + y * x) as u8);
//! #     tarrl_data::Dataset::new("ramps", images, vec![0; 16], vec!["all".into()])
//! # }
//!
//! let method: Method = toml::from_str(r#"
//!     title = "TARR"
//!     views = ["strong", "strong"]
//!     objective = { kind = "nt-xent", temperature = 0.5 }
//!     regularizer = { weight = 3.0, inner = { kind = "pgd", steps = 2, epsilon = "8/255" } }
//! "#).unwrap();
//! let mut config = TrainConfig { epochs: 1, batch: 8, ..TrainConfig::new(method) };
//! # config.encoder = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
//! # config.method.projector = ProjectorConfig { hidden: 8, out: 8, ..ProjectorConfig::default() };
//! let folder = tempfile::tempdir().unwrap();
//! let mut steps = 0;
//! let mut watch = |event: &Event<'_>| steps += usize::from(matches!(event, Event::Stepped { .. }));
//! let trained =
//!     pretrain(&config, &Arc::new(images()), &tarrl_tensor::cpu(), folder.path(), &mut watch).unwrap();
//! assert_eq!(steps, 2);
//! assert!(trained.last.unwrap().regularizer > 0.0);
//! assert!(folder.path().join("encoder.safetensors").exists());
//! ```
//!
//! The learning rate warms up linearly and falls on a cosine; [`Optimizer`] is SGD with momentum, LARS or AdamW. Only the
//! run folder, method files and [`config::read_toml`] touch the file system.
//!
//! One step, in the order of the code: `Trainer::load_batch` and `launch_step` (sample the attacks' initial points, compute
//! targets, adversarial views, terms and gradients, update the parameters), then `finish_step`, which reads the metrics
//! once, after the next batch has been requested.

#![forbid(unsafe_code)]

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
mod run;
mod schedule;
mod state;
mod step;
mod train_config;
mod trainer;

pub use error::TrainError;
pub use ibp_loss::{CertifiedContrastive, IbpError, IbpLoss};
pub use method::{
    Adversary, AdversaryCombine, AdversaryLoss, AdversaryReference, AdversaryView, Distillation, EncoderMode,
    Invariance, Method, MethodError, MomentumConfig, NetworkConfig, PseudoLabels, Strength,
};
pub use metrics::{EpochRecord, Event, Record, StepRecord, WarningRecord};
pub use optimizer::{
    AdamW, Lars, LarsForm, Optimizer, OptimizerConfig, OptimizerError, Parameter, RestoreError, Sgd,
};
pub use pretrain::pretrain;
pub use pretraining::{Finish, Pretraining, Trained};
pub use train_config::{Options, SettingError, TrainConfig};
