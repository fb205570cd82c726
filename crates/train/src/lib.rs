//! Optimizers, schedules, methods as compositions, and the pre-training loop.
//!
//! An encoder `f` with a projector `g` is trained without labels to minimize
//!
//! ```text
//! objective(g(f(view₁)), g(f(view₂))) + λ · R,    R = mean_i D(f(x_i), f(x'_i)),
//! x'_i = argmax over the ball around x_i of D(f(x_i), ·), found by a few steps of an attack.
//! ```
//!
//! What the objective, the views and `R` are is a [`Method`], read from a file: a composition of
//!
//! | part | in a file | choices |
//! |---|---|---|
//! | views | `views`, `strength` | [`View`](tarrl_data::augment::View), constant or in stairs ([`Strength`]) |
//! | objective | `objective` | any of [`Objective`](tarrl_objectives::Objective), with labels or without |
//! | adversary | `[adversary]` | an [`Adversary`]: what it ascends, on which views, in which network, what becomes of them |
//! | regularizer | `[regularizer]`, `[certified]` | a [`Regularizer`](tarrl_bound::Regularizer), a [`Certified`] term |
//! | network | `projector`, `[network]` | [`NetworkConfig`]: predictor, momentum network, one or two sets of batch norm |
//! | teacher | `teacher` | another method's encoder, for [`Distillation`] or [`PseudoLabels`] |
//!
//! Parts that make no method together are refused when the file is read, with the reason. The result is determined to
//! the bit by a [`TrainConfig`] and the images, whatever the number of threads and however often the training was
//! interrupted.
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
//! The learning rate rises linearly and falls on a cosine ([`Schedule`]); [`Optimizer`] is SGD with
//! momentum, LARS or AdamW. Files are touched by the run folder and by [`config::read_toml`] alone.

#![forbid(unsafe_code)]

mod ascend;
mod certified;
mod clock;
mod clusters;
pub mod config;
mod error;
mod health;
mod memory;
mod method;
mod metrics;
mod model;
mod momentum;
mod monitor;
mod optimizer;
mod pretrain;
mod run;
mod schedule;
mod session;
mod spread;
mod state;
mod step;
mod train_config;

pub use certified::{Certified, Contrast};
pub use error::TrainError;
pub use health::{COLLAPSED_EMBEDDINGS, COLLAPSED_FEATURES};
pub use method::{
    Adversary, Against, Ascends, Attacked, Distillation, Enters, Invariance, Method, Mode, MomentumConfig,
    NetworkConfig, PseudoLabels, Strength,
};
pub use metrics::{EpochRecord, Event, Record, StepRecord, WarningRecord};
pub use model::{Classifier, Heads, Model};
pub use optimizer::{AdamW, Lars, LarsForm, Optimizer, OptimizerConfig, Parameter, Sgd};
pub use pretrain::{Finish, Pretraining, Trained, pretrain};
pub use schedule::Schedule;
pub use train_config::{Options, TrainConfig};
