//! Attack outcomes, image by image.

use tarrl_attacks::{Origin, Outcome, SuiteOutcome};
use tarrl_nearest::NearestOutcome;
use tarrl_study::attack_state::ImageOutcome;

/// The outcome of each image of a suite. `nearest`: its attacks minimize the distance.
pub(crate) fn of_suite(found: &SuiteOutcome, nearest: bool) -> Vec<ImageOutcome> {
    let row = |i: usize| ImageOutcome {
        broken: found.success[i],
        margin: finite(found.margin[i]),
        distance: if nearest { finite(found.distance[i]) } else { None },
        origin: found.origin[i].clone(),
        forward: found.forward[i],
        backward: found.backward[i],
        flags: found.flags[i],
        ..ImageOutcome::default()
    };
    (0..found.success.len()).map(row).collect()
}

/// The outcome of each image of a single attack. `nearest`: its values are negative distances of misclassified points.
pub(crate) fn of_outcome(found: &Outcome, nearest: bool) -> Vec<ImageOutcome> {
    let (success, distances) = (found.success(), found.distances());
    let row = |i: usize| ImageOutcome {
        broken: success[i],
        margin: found.closest.as_ref().and_then(|closest| finite(closest.verdict[i].margin)),
        distance: if nearest { finite(distances[i]) } else { None },
        origin: found.origin[i].clone(),
        forward: found.forward[i],
        backward: found.backward[i],
        flags: found.flags[i],
        ..ImageOutcome::default()
    };
    (0..success.len()).map(row).collect()
}

/// The outcome of each image of the minimum-norm attack of that name.
pub(crate) fn of_nearest(found: &NearestOutcome, name: &str) -> Vec<ImageOutcome> {
    let row = |i: usize| {
        let attack = if found.distance[i] == 0.0 { "clean" } else { name };
        let origin = Origin { attack: attack.to_owned(), ..Origin::default() };
        ImageOutcome {
            broken: found.success[i],
            margin: finite(found.margin[i]),
            distance: finite(found.distance[i]),
            found_by: found.by[i].clone(),
            first_mistake: found.first_mistake[i],
            origin: found.success[i].then_some(origin),
            forward: found.forward[i],
            backward: found.backward[i],
            flags: found.flags[i],
        }
    };
    (0..found.distance.len()).map(row).collect()
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
