//! Evaluation of frozen encoders: heads, robust accuracy, the bound beside measured losses, and statistics.
//!
//! A frozen encoder `f` is evaluated by what can be built on it: a head `h` is fitted to clean features, the two are
//! attacked together, and the loss that is reached is compared with the bound and with certificates:
//!
//! ```text
//! loss(h(f(x')), y)  ≤  ln(1 + Σ_{j≠y} exp(m_j + ‖w_j − w_y‖ · R(x)))  ≤  loss(h(f(x)), y) + C(h) · R(x)
//! ```
//!
//! with the gaps `m_j` of the clean logits to the label's. An encoder is a closure from pixels `(n, h, w, c)` in [0, 1] to
//! features `(n, d)` in inference mode, of any origin.
//!
//! ```
//! use tarrl_attacks::{Pgd, Threat};
//! use tarrl_certify::{Provenance, Certificates, CertifyConfig, Network, certify};
//! use tarrl_eval::{
//!     BoundEvaluation, Displacements, FittedTask, ProbeConfig, RobustConfig, TaskHead, displacement_attack,
//!     linear_probe, robust_accuracy,
//! };
//! use tarrl_tensor::{Key, Tensor, cpu};
//!
//! // Images of one row and two pixels; the brighter pixel is the label.
//! let x = Tensor::new(&cpu(), [4, 1, 2, 1], &[0.9f32, 0.1, 0.8, 0.3, 0.2, 0.9, 0.1, 0.7]);
//! let labels = [0, 0, 1, 1];
//! let encoder = |x: &Tensor| x.reshape([x.shape()[0], 2]).mul_scalar(2.0);
//!
//! let config = ProbeConfig { l2: vec![0.1], ..ProbeConfig::default() };
//! let head = linear_probe(&encoder(&x), &labels, 2, &config, Key::new(1)).head;
//!
//! let threat = Threat::linf(0.45);
//! let config = RobustConfig { threat, pgd: Pgd::usual(&threat, 20), ..RobustConfig::default() };
//! let found = robust_accuracy(&encoder, &head, &x, &labels, &config, Key::new(2));
//! assert_eq!((found.clean_accuracy(), found.robust_accuracy()), (1.0, 0.0));
//!
//! // Certificates are made before any task is known; then a task is evaluated beside them.
//! let network = Network::trace(&encoder, &x.slice(0, 0, 1))?;
//! let config = CertifyConfig { threat, ..CertifyConfig::default() };
//! let (samples, cost) = certify(&network, &x, &config)?;
//! let attack = displacement_attack(&threat, 20, 1);
//! let moved = Displacements::measure(&encoder, &network, &x, &threat, &samples, &attack, Key::new(3))?;
//! let about = Provenance { encoder: "doc".into(), samples: "doc".into(), config, cost };
//! let labels = labels.iter().map(|&label| label as usize).collect();
//! let head = TaskHead::Classifier { head, labels };
//! let tasks = [FittedTask { name: "brighter".into(), family: "brighter".into(), head, key: Key::new(4) }];
//! let evaluation = BoundEvaluation {
//!     encoder: &encoder, network: &network, images: &x, tasks: &tasks, steps: 20,
//! };
//! let level = evaluation.measure(&moved, &Certificates { about, samples })?;
//! let task = &level.tasks[0];
//! assert!(task.clean.mean < task.attacked.mean && task.attacked.mean <= task.gap.mean);
//! assert!(task.attacked.mean <= task.certified.mean);
//! # Ok::<(), tarrl_eval::BoundError>(())
//! ```
//!
//! - Features are computed once ([`features()`]); heads are fitted to them exactly and reproducibly ([`linear_probe`],
//!   [`ridge()`], [`nearest_centroid`], [`Knn`]). No function that fits a head takes test data, and hyperparameters are
//!   chosen on a part of the training set.
//! - Accuracy under attack ([`robust_accuracy`], [`robust_curve`]) keeps the outcome of each image. It is an upper bound of
//!   the true robust accuracy: a stronger attack may break more.
//! - [`standard_tasks`] are the downstream tasks of the study; [`BoundEvaluation`] verifies the bound at attacked points
//!   and applies certificates.
//! - Every reported mean has an [`Interval`] that says whether it is over seeds or over samples.
//! - The same seed gives the same bits for any number of threads, and for any batch size where there is one.

#![forbid(unsafe_code)]

mod bound_error;
mod diagnostics;
mod displacement;
mod downstream;
mod features;
mod head;
mod knn;
mod lbfgs;
mod measure;
mod probe;
mod ridge;
mod robust;
mod robust_result;
mod spectrum;
mod split;
mod standardize;
mod statistics;
#[cfg(test)]
mod toy;
mod wolfe;

pub use bound_error::BoundError;
pub use diagnostics::{Diagnostics, diagnose};
pub use displacement::{Displacements, NO_CLAIM, displacement_attack, median};
pub use downstream::{DownstreamTask, FittedTask, PixelStatistic, TaskHead, standard_tasks, task_probes};
pub use features::{dataset_pixels, features, labels, pixels};
pub use head::DeviceHead;
pub use knn::{Knn, nearest_centroid};
pub use lbfgs::Lbfgs;
pub use measure::{BoundEvaluation, BoundLevel, CorrectCounts, Mean, TaskBound};
pub use probe::{Candidate, Probe, ProbeConfig, linear_probe};
pub use ridge::{Ridge, ridge};
pub use robust::{RobustConfig, robust_accuracy, robust_curve};
pub use robust_result::{Example, RobustAccuracy, SampleOutcome};
pub use statistics::{CONFIDENCE, Interval, Over};
pub use wolfe::Wolfe;
