//! Heads, protocols, robust evaluation and the bound measured on real encoders.
//!
//! A frozen encoder `f` is judged by what can be built on it: a head `h` is trained on cached, clean
//! features, the two are attacked together, and the loss that is reached is set beside the bound
//!
//! ```text
//! loss(h(f(x')), y)  ≤  ln(1 + Σ_{j≠y} exp(m_j + ‖w_j − w_y‖ · R(x)))  ≤  loss(h(f(x)), y) + C(h) · R(x)
//! ```
//!
//! with the gaps `m_j` of the clean logits to the label's. An encoder is a closure from pixels
//! `(n, h, w, c)` in [0, 1] to features `(n, d)` in inference mode; one of any origin fits.
//!
//! ```
//! use tarrl_attacks::{Pgd, Threat};
//! use tarrl_eval::{Downstream, MeasureConfig, ProbeConfig, RobustConfig};
//! use tarrl_eval::{linear_probe, measure_bound, robust_accuracy};
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
//! let (threat, pgd) = (Threat::linf(0.45), Pgd { step_size: 0.1, ..Pgd::default() });
//! let config = RobustConfig { threat, pgd, ..RobustConfig::default() };
//! let found = robust_accuracy(&encoder, &head, &x, &labels, &config, Key::new(2));
//! assert_eq!((found.clean_accuracy(), found.robust_accuracy()), (1.0, 0.0));
//!
//! let task = Downstream { name: "brighter".into(), labels: labels.to_vec(), head };
//! let config = MeasureConfig { threat, pgd, ..MeasureConfig::default() };
//! let measured = measure_bound(&encoder, &x, &[task], &config, Key::new(3));
//! let mean = measured.tasks[0].report.mean;
//! assert!(mean.clean < mean.attacked && mean.attacked <= mean.gap && mean.gap <= mean.additive);
//! assert_eq!(measured.violations(), 0);
//! ```
//!
//! - Features are computed once ([`features`]); heads are fitted to them exactly and reproducibly
//!   ([`linear_probe`], [`ridge`], [`nearest_centroid`], [`Knn`]). No function that fits a head takes test
//!   data, and what is to be chosen is chosen on a part of the training set.
//! - Accuracy under attack ([`robust_accuracy`], [`robust_curve`]) keeps what became of each image. It is an
//!   upper bound of the truth: a stronger attack may break more.
//! - [`measure_bound`] verifies the theorem at attacked points; it certifies nothing.
//! - Every figure has an [`Interval`] that says whether it is over seeds or over samples.
//! - The same seed gives the same bits for any number of threads and any batch size.

#![forbid(unsafe_code)]

mod attacked;
mod diagnostics;
mod features;
mod head;
mod knn;
mod lbfgs;
mod measure;
mod probe;
mod ridge;
mod robust;

mod spectrum;
mod split;
mod standard;
mod statistics;
#[cfg(test)]
mod toy;
mod wolfe;

pub use attacked::{Attacked, Example, Robust};
pub use diagnostics::{Diagnostics, alignment, diagnose};
pub use features::{features, pixels};
pub use knn::{Knn, nearest_centroid};
pub use lbfgs::{Lbfgs, Minimum, Smooth, minimize};
pub use measure::{BoundMeasurement, Downstream, MeasureConfig, TaskBound, displacements, measure_bound};
pub use probe::{Candidate, Probe, ProbeConfig, linear_probe};
pub use ridge::{Ridge, ridge};
pub use robust::{RobustConfig, robust_accuracy, robust_curve};
pub use statistics::{CONFIDENCE, Interval, Over, bootstrap};
pub use tarrl_bound::confidence::{accuracy_lower, accuracy_upper, bernstein_upper, hoeffding_upper};
pub use wolfe::{Step, Wolfe};
