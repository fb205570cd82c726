//! Forward context: train or eval mode, the batch-norm branch, and the batch statistics of one forward pass.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tarrl_parallel::Shard;
use tarrl_tensor::{Array, DType, Tensor};

/// The context of one forward pass: train or eval mode, the batch-norm branch, and the collected batch statistics.
///
/// In train mode the layers normalize with the statistics of the batch and collect them here; nothing in
/// the network changes until [`Module::update_running_stats`](crate::Module::update_running_stats). One context may serve several
/// networks, such as encoder and projector, if their layers have different names.
#[derive(Clone, Debug)]
pub struct ForwardContext {
    statistics_of: NormStatistics,
    branch: BnBranch,
    shard: Option<Shard>,
    statistics: Vec<BatchStatistics>,
}

/// Which set of batch norms a forward pass uses, where a network has two ([`BatchNormMode::Dual`](crate::BatchNormMode::Dual)): scales,
/// shifts and running statistics of its own for clean images and for attacked ones (Xie et al. 2020). Networks with one
/// set ignore it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BnBranch {
    /// The first set, `bn_list.0`, called `normal` in the code of ACL.
    #[default]
    Clean,
    /// The second set, `bn_list.1`, called `pgd` there.
    Adversarial,
}

/// Which statistics batch norm normalizes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NormStatistics {
    /// Those of the batch: train mode.
    Batch,
    /// The running ones: eval mode.
    Running,
}

/// The statistics of one batch in one batch norm layer.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// The name of the layer.
    pub layer: Arc<str>,
    /// `(c)`: the mean.
    pub mean: Array,
    /// `(c)`: the biased variance.
    pub variance: Array,
    /// Values per channel: images of all shards times positions.
    pub count: usize,
}

impl ForwardContext {
    /// Eval mode: batch norm uses running statistics, so that the result for an image does not depend on the others.
    pub fn eval() -> Self {
        ForwardContext {
            statistics_of: NormStatistics::Running,
            branch: BnBranch::Clean,
            shard: None,
            statistics: Vec::new(),
        }
    }

    /// Train mode: batch norm uses the statistics of the batch, and collects them.
    pub fn train() -> Self {
        ForwardContext {
            statistics_of: NormStatistics::Batch,
            branch: BnBranch::Clean,
            shard: None,
            statistics: Vec::new(),
        }
    }

    /// The same context with the batch norms of this branch; the default is the clean one.
    pub fn branch(self, branch: BnBranch) -> Self {
        ForwardContext { branch, ..self }
    }

    /// The same context, of one shard of the batch: batch norm uses the statistics of all shards. `None` changes nothing.
    pub fn across(self, shard: Option<&Shard>) -> Self {
        ForwardContext { shard: shard.cloned(), ..self }
    }

    /// The shard whose images go through, if the batch has several.
    pub(crate) fn shard(&self) -> Option<&Shard> {
        self.shard.as_ref()
    }

    /// The batch-norm branch.
    pub(crate) fn bn_branch(&self) -> BnBranch {
        self.branch
    }

    /// Whether this is train mode.
    pub fn is_train(&self) -> bool {
        self.statistics_of == NormStatistics::Batch
    }

    /// The collected batch statistics, in the order of the layers.
    pub fn statistics(&self) -> &[BatchStatistics] {
        &self.statistics
    }

    pub(crate) fn collect(&mut self, seen: BatchStatistics) {
        self.statistics.push(seen);
    }

    /// Moves `count` statistics from position `at` to the end: they were collected before their layers' turn.
    pub(crate) fn defer(&mut self, at: usize, count: usize) {
        self.statistics[at..].rotate_left(count);
    }

    /// The value of the buffer `name` after this pass.
    pub(crate) fn updated_buffer(&self, name: &str, buffer: &Tensor, momentum: f64) -> Tensor {
        let Some((layer, buffer_of_layer)) = name.rsplit_once('.') else { return buffer.clone() };
        let seen = self.statistics.iter().filter(|seen| *seen.layer == *layer);
        seen.fold(buffer.detach(), |buffer, seen| match buffer_of_layer {
            "running_mean" => moving_average(&buffer, &seen.mean, momentum),
            "running_var" => moving_average(&buffer, &unbiased(seen), momentum),
            "num_batches_tracked" => incremented(&buffer),
            _ => buffer,
        })
    }
}

fn moving_average(running: &Tensor, batch: &Array, momentum: f64) -> Tensor {
    &(running * (1.0 - momentum)) + &(&Tensor::from(batch.clone()) * momentum)
}

fn unbiased(seen: &BatchStatistics) -> Array {
    let n = seen.count as f64;
    (&Tensor::from(seen.variance.clone()) * (n / (n - 1.0))).array().clone()
}

fn incremented(count: &Tensor) -> Tensor {
    debug_assert_eq!(count.dtype(), DType::U32);
    // Through f64, which has arithmetic: reading the number would make the host wait for the device.
    let more = Tensor::from(count.array().cast(DType::F64)).add_scalar(1.0);
    more.array().cast(DType::U32).into()
}
