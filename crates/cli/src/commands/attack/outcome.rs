//! Attack outcomes, image by image.

use tarrl_attacks::{Outcome, SuiteOutcome};
use tarrl_study::attack_state::ImageOutcome;

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
