//! Attack outcomes, image by image.

use serde::{Deserialize, Serialize};
use tarrl_attacks::{Flags, Origin, Outcome, SuiteOutcome};

/// The outcome of one image under attack.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct ImageOutcome {
    /// Whether a misclassified point of the ball was found.
    pub(super) broken: bool,
    /// z_y − max_{i≠y} z_i at the misclassified point of least margin, or at the point of least margin; absent if it
    /// is no number.
    pub(super) margin: Option<f64>,
    /// Distance of the nearest misclassified point found, in the ball or beyond, for attacks that minimize it.
    pub(super) distance: Option<f64>,
    /// The attack that broke it first, and where.
    pub(super) origin: Option<Origin>,
    /// Forward passes.
    pub(super) forward: u32,
    /// Backward passes.
    pub(super) backward: u32,
    /// What was noticed of its gradients.
    pub(super) flags: Flags,
}

/// The outcome of each image of a suite.
pub(super) fn of_suite(found: &SuiteOutcome) -> Vec<ImageOutcome> {
    let row = |i: usize| ImageOutcome {
        broken: found.success[i],
        margin: finite(found.margin[i]),
        distance: None,
        origin: found.origin[i].clone(),
        forward: found.forward[i],
        backward: found.backward[i],
        flags: found.flags[i],
    };
    (0..found.success.len()).map(row).collect()
}

/// The outcome of each image of a single attack. `nearest`: its values are negative distances of misclassified points.
pub(super) fn of_outcome(found: &Outcome, nearest: bool) -> Vec<ImageOutcome> {
    let (success, distances) = (found.success(), found.distances());
    let row = |i: usize| ImageOutcome {
        broken: success[i],
        margin: found.closest.as_ref().and_then(|closest| finite(closest.verdict[i].margin)),
        distance: if nearest { finite(distances[i]) } else { None },
        origin: found.origin[i].clone(),
        forward: found.forward[i],
        backward: found.backward[i],
        flags: found.flags[i],
    };
    (0..success.len()).map(row).collect()
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
