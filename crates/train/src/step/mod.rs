//! Training step: loss, gradients and new buffers of one batch, as a function of arrays.

mod adversary;
mod captured;
mod compute;
mod context;
mod ema_targets;
mod initial_points;
mod metrics;
mod output;
mod scope;
mod terms;
mod views;

pub(crate) use captured::CapturedStep;
pub(crate) use compute::compute_step;
pub(crate) use context::{Networks, ShardedBatch, StepInput};
pub(crate) use initial_points::InitialPoints;
pub(crate) use metrics::StepMetrics;
pub(crate) use output::StepOutput;

#[cfg(test)]
mod shard_tests;
#[cfg(test)]
mod tests;
