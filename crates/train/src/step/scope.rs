//! Whose images a part of the loss is computed of, where a batch is cut into shards.
//!
//! What compares images with each other is computed of the whole batch, on every shard alike: representations and
//! embeddings of all shards are gathered, and each shard takes the gradient of its own. A term whose loss is a mean over images
//! is computed of each shard's own, and its mean over the shards is taken. Attacks see the shard alone.

use super::context::StepContext;
use crate::model::NetworkOutput;
use tarrl_encoders::{BnBranch, ForwardContext, IntervalDisplacement};
use tarrl_parallel::{Shard, all_gather};
use tarrl_tensor::{Array, Tensor};

/// Whose images are seen; the same without shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of this shard.
    Shard,
    /// Those of all shards.
    Batch,
}

impl StepContext<'_> {
    pub(super) fn shard(&self) -> Option<&Shard> {
        self.input.batch.map(|batch| batch.shard)
    }

    /// A pass in training mode, with the statistics of the whole batch.
    pub(super) fn train_context(&self, branch: BnBranch) -> ForwardContext {
        ForwardContext::train().branch(branch).across(self.shard())
    }

    /// Images seen.
    pub(super) fn images_of(&self, scope: Scope) -> usize {
        let shards = self.shard().map_or(1, Shard::count);
        self.batch_size() * if scope == Scope::Batch { shards } else { 1 }
    }

    /// Their classes.
    pub(super) fn labels_of(&self, scope: Scope) -> &Array {
        match self.input.batch {
            Some(batch) if scope == Scope::Batch => batch.labels,
            _ => self.input.labels,
        }
    }

    /// The momentum encoder's targets of them.
    pub(super) fn targets_of(&self, scope: Scope) -> &[Option<Tensor>] {
        match scope {
            Scope::Shard => &self.ema_targets,
            Scope::Batch => self.batch_targets.as_ref().unwrap_or(&self.ema_targets),
        }
    }

    /// The rows of the whole batch, of `parts` parts one after another.
    pub(super) fn gathered(&self, x: &Tensor, parts: usize) -> Tensor {
        self.shard().map_or_else(|| x.clone(), |shard| all_gather(x, parts, shard))
    }

    /// The outputs for the whole batch, of `parts` parts one after another.
    pub(super) fn gathered_output(&self, output: NetworkOutput, parts: usize) -> NetworkOutput {
        if self.shard().is_none() {
            return output;
        }
        let all = |x: &Tensor| self.gathered(x, parts);
        let embeddings = output.embeddings.as_ref().map(all);
        let projections = match (&output.projections, &embeddings) {
            (Some(_), Some(z)) if self.networks.model.heads.predictor.is_none() => Some(z.clone()),
            (projections, _) => projections.as_ref().map(all),
        };
        NetworkOutput { features: all(&output.features), embeddings, projections }
    }

    /// The intervals of the whole batch.
    pub(super) fn gathered_intervals(&self, found: IntervalDisplacement) -> IntervalDisplacement {
        let IntervalDisplacement { clean, center, radius } = found;
        let [clean, center, radius] = [clean, center, radius].map(|x| self.gathered(&x, 1));
        IntervalDisplacement { clean, center, radius }
    }

    /// The momentum encoder's targets of the whole batch; `None` without shards.
    pub(super) fn gather_targets(&self) -> Option<Vec<Option<Tensor>>> {
        self.shard()?;
        let all = |target: &Option<Tensor>| target.as_ref().map(|target| self.gathered(target, 1).detach());
        Some(self.ema_targets.iter().map(all).collect())
    }
}
