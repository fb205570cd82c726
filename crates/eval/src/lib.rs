#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! - Features are computed once ([`features()`]); heads are fitted to them exactly and reproducibly ([`linear_probe`],
//!   [`ridge()`], [`nearest_centroid`], [`Knn`]). No function that fits a head takes test data, and hyperparameters are
//!   chosen on a part of the training set.
//! - Accuracy under attack ([`robust_accuracy`], [`robust_curve`]) keeps the outcome of each image. It is an upper bound of
//!   the true robust accuracy: a stronger attack may break more.
//! - Distances from images to the nearest mistake ([`nearest_mistakes`]), or without labels to the nearest point where a
//!   representation has moved ([`nearest_moves`]), with certified radii below them ([`radius_interval`]).
//! - [`BinarizationTest`] tests attacks themselves: on readouts for which an adversarial example is known, they have to find one.
//! - Encoders are asked for more than the accuracy of one head: under common corruptions ([`Corruption`]), with few labels
//!   ([`few_label_heads`]), in retrieval ([`Bank`], [`most_turned`]), under one perturbation for all images
//!   ([`universal_perturbation`]), and with a head that is trained under attack ([`adversarial_probe`]).
//! - [`standard_tasks`] are the downstream tasks of the study; [`BoundEvaluation`] verifies the bound at attacked points
//!   and applies certificates.
//! - [`PredictorEvaluation`] does so for random representations and predictors of every [`PredictorKind`], with confidence limits
//!   from draws.
//! - Every reported mean has an [`Interval`] that says whether it is over seeds or over samples.
//! - The same seed gives the same bits for any number of threads, and for any batch size where there is one.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod adversarial_probe;
mod any_predictor;
mod binarization_test;
mod bootstrap;
mod bound;
mod bound_error;
mod corruptions;
mod diagnostics;
mod displacement;
mod distances;
mod downstream;
mod features;
mod few_labels;
mod fit_error;
mod forest;
mod frontier;
mod head;
mod head_path;
mod knn;
mod l2_choice;
mod lbfgs;
mod logistic;
mod mlp_probe;
mod predictors;
mod probe;
mod retrieval;
mod ridge;
mod robust;
mod robust_batch;
mod robust_config;
mod robust_result;
mod spectrum;
mod split;
mod standardize;
mod statistics;
#[cfg(test)]
mod toy;
mod universal;
mod wolfe;

pub use adversarial_probe::{AdversarialProbeConfig, adversarial_probe};
pub use any_predictor::{DrawConfig, PredictorErrors, PredictorEvaluation, PredictorLevel, PredictorRun};
pub use binarization_test::{AttackUnderTest, BinarizationScore, BinarizationTest};
pub use bootstrap::{Resample, half_width, resamples};
pub use bound::{BoundEvaluation, BoundLevel, CorrectCounts, Mean, TaskBound};
pub use bound_error::BoundError;
pub use corruptions::{Corruption, SEVERITIES};
pub use diagnostics::{Diagnostics, diagnose};
pub use displacement::{
    Displacements, NO_CLAIM, ReachedDisplacements, displacement_attack, displacements, median,
};
pub use distances::{
    FoundDistance, Holds, RadiusInterval, keeps_class, nearest_mistakes, nearest_moves, radius_interval,
    survivors,
};
pub use downstream::{
    DownstreamTask, FittedTask, PixelStatistic, TaskHead, standard_tasks, task_probes, tasks_of_classes,
};
pub use features::{dataset_pixels, features, labels, pixels};
pub use few_labels::few_label_heads;
pub use fit_error::FitError;
pub use forest::{Forest, ForestConfig};
pub use frontier::{matched_l2, robust_at_clean};
pub use head::DeviceHead;
pub use head_path::head_path;
pub use knn::{Knn, nearest_centroid};
pub use l2_choice::Candidate;
pub use lbfgs::Lbfgs;
pub use mlp_probe::MlpConfig;
pub use predictors::{Predictor, PredictorKind, RepresentationNoise};
pub use probe::{Probe, ProbeConfig, linear_probe};
pub use retrieval::{Bank, most_turned};
pub use ridge::{Ridge, ridge};
pub use robust::{CurveRadii, continue_robust_curve, robust_accuracy, robust_curve};
pub use robust_config::RobustConfig;
pub use robust_result::{Example, RobustAccuracy, SampleOutcome};
pub use statistics::{CONFIDENCE, Interval, Over};
pub use universal::{UniversalConfig, perturbed, universal_perturbation};
pub use wolfe::Wolfe;
