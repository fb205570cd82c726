//! The outcome and the progress of a suite.

use crate::driver::{Flags, Origin};
use tarrl_tensor::Tensor;

/// What a suite found, row by row of the batch.
#[derive(Clone, Debug)]
pub struct SuiteOutcome {
    /// `(n, …)`: the misclassified point of least margin that was seen in the ball, or the point of least margin;
    /// `success` says which it is.
    pub adversarial: Tensor,
    /// `(n)`: whether that point is misclassified.
    pub success: Vec<bool>,
    /// `(n)`: z_y − max_{i≠y} z_i there.
    pub margin: Vec<f64>,
    /// `(n)`: the distance of the nearest misclassified point that was seen, in the ball or beyond; infinite if there is
    /// none. FAB minimizes it, and goes on after its first success if samples never leave
    /// ([`EarlyExit::Never`](crate::EarlyExit)).
    pub distance: Vec<f64>,
    /// `(n)`: which attack, class, restart and step found the first misclassified point.
    pub origin: Vec<Option<Origin>>,
    /// `(n)`: forward passes of each sample.
    pub forward: Vec<u32>,
    /// `(n)`: backward passes whose gradient the sample used.
    pub backward: Vec<u32>,
    /// `(n)`: signs of trouble on the way.
    pub flags: Vec<Flags>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Samples in all.
    pub samples: usize,
    /// Samples that are finished.
    pub finished: usize,
    /// Those of them that are broken.
    pub broken: usize,
    /// Passes so far, of all samples.
    pub forward: u64,
    /// Those backward.
    pub backward: u64,
}
