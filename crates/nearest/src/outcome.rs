//! What minimum-norm attacks found, sample by sample.

use crate::sample::Found;
use tarrl_attacks::{Flags, Outcome};
use tarrl_tensor::Tensor;

/// The nearest mistakes found, row by row of the batch.
#[derive(Clone, Debug)]
pub struct NearestOutcome {
    /// `(n, …)`: the nearest mistake; the sample itself where none was found.
    pub point: Tensor,
    /// `(n)`: its distance: 0 where the sample itself is wrong, infinite where no mistake was found.
    pub distance: Vec<f64>,
    /// `(n)`: z_y − max_{k≠y} z_k there; infinite where no mistake was found.
    pub margin: Vec<f64>,
    /// `(n)`: whether a mistake within the ball of the sample was found.
    pub success: Vec<bool>,
    /// `(n)`: the method that found it, such as `fmn`; `clean` where the sample itself is wrong.
    pub by: Vec<Option<String>>,
    /// `(n)`: the passes, forward and backward, after which the first mistake was seen.
    pub first_mistake: Vec<Option<u32>>,
    /// `(n)`: forward passes of each sample.
    pub forward: Vec<u32>,
    /// `(n)`: backward passes of each sample.
    pub backward: Vec<u32>,
    /// `(n)`: signs of trouble on the way.
    pub flags: Vec<Flags>,
}

impl NearestOutcome {
    pub(crate) fn new(found: Vec<Found>, outcome: Outcome) -> Self {
        NearestOutcome {
            distance: found.iter().map(|found| found.distance).collect(),
            margin: found.iter().map(|found| found.margin).collect(),
            success: outcome.success(),
            by: found.iter().map(|found| found.is_any().then(|| found.by.clone())).collect(),
            first_mistake: found.iter().map(|found| found.first).collect(),
            point: outcome.best,
            forward: outcome.forward,
            backward: outcome.backward,
            flags: outcome.flags,
        }
    }
}
