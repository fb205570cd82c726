//! One way through a network: with running statistics, or with those of the batch.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tarrl_tensor::{Array, DType, Tensor};

/// One way through a network, and what batch norm has seen on it.
///
/// In training the layers normalize with the statistics of the batch and leave them here; nothing in
/// the network changes until [`Module::update_running_stats`](crate::Module::update_running_stats). One pass may lead through several
/// networks, encoder and projector, if their layers have different names.
#[derive(Clone, Debug)]
pub struct ForwardContext {
    mode: Mode,
    branch: BnBranch,
    statistics: Vec<BatchStatistics>,
}

/// Which set of batch norms a pass goes through, where a network has two ([`BatchNormMode::Dual`](crate::BatchNormMode::Dual)): scales,
/// shifts and running statistics of its own for clean images and for attacked ones (Xie et al. 2020). Networks with one
/// set do not distinguish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BnBranch {
    /// The first set, `bn_list.0`, called `normal` in the code of ACL.
    #[default]
    Clean,
    /// The second set, `bn_list.1`, called `pgd` there.
    Adversarial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Train,
    Eval,
}

/// What one batch norm saw of one batch.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// The name of the layer.
    pub layer: Arc<str>,
    /// `(c)`: the mean.
    pub mean: Array,
    /// `(c)`: the biased variance.
    pub variance: Array,
    /// Values per channel: images times positions.
    pub count: usize,
}

impl ForwardContext {
    /// Normalize with running statistics: the result of an image does not depend on the others.
    pub fn eval() -> Self {
        ForwardContext { mode: Mode::Eval, branch: BnBranch::Clean, statistics: Vec::new() }
    }

    /// Normalize with the statistics of the batch, and collect them.
    pub fn train() -> Self {
        ForwardContext { mode: Mode::Train, branch: BnBranch::Clean, statistics: Vec::new() }
    }

    /// The same way through the batch norms of this branch; without a word it is the clean one.
    pub fn branch(self, branch: BnBranch) -> Self {
        ForwardContext { branch, ..self }
    }

    /// The branch that it goes through.
    pub(crate) fn at(&self) -> BnBranch {
        self.branch
    }

    /// Whether batches are normalized with their own statistics.
    pub fn is_train(&self) -> bool {
        self.mode == Mode::Train
    }

    /// What was collected, in the order of the layers.
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
    pub(crate) fn absorbed(&self, name: &str, buffer: &Tensor, momentum: f64) -> Tensor {
        let Some((layer, buffer_of_layer)) = name.rsplit_once('.') else { return buffer.clone() };
        let seen = self.statistics.iter().filter(|seen| *seen.layer == *layer);
        seen.fold(buffer.detach(), |buffer, seen| match buffer_of_layer {
            "running_mean" => towards(&buffer, &seen.mean, momentum),
            "running_var" => towards(&buffer, &unbiased(seen), momentum),
            "num_batches_tracked" => one_more(&buffer),
            _ => buffer,
        })
    }
}

fn towards(running: &Tensor, batch: &Array, momentum: f64) -> Tensor {
    &(running * (1.0 - momentum)) + &(&Tensor::from(batch.clone()) * momentum)
}

fn unbiased(seen: &BatchStatistics) -> Array {
    let n = seen.count as f64;
    (&Tensor::from(seen.variance.clone()) * (n / (n - 1.0))).array().clone()
}

fn one_more(count: &Tensor) -> Tensor {
    debug_assert_eq!(count.dtype(), DType::U32);
    // Through f64, which has arithmetic: reading the number would make the host wait for the device.
    let more = Tensor::from(count.array().cast(DType::F64)).add_scalar(1.0);
    more.array().cast(DType::U32).into()
}
