//! Table cells and labels that several artifacts share: accuracies, radii, notes on intervals.

use tarrl_eval::Interval;
use tarrl_report::Estimate;

use super::Results;
use crate::jobs::Key;
use crate::layout::{MethodJobs, SeedJobs};
use crate::stages::attack::AttackResult;

/// An accuracy in per cent from counts `(correct, n)`, one for each seed: over seeds where there are several, else over the
/// images of the one.
pub(super) fn accuracy(counts: impl IntoIterator<Item = (usize, usize)>) -> Estimate {
    let interval = Interval::of_accuracies(&counts.into_iter().collect::<Vec<_>>());
    Estimate { mean: interval.mean * 100.0, half_width: Some(interval.half_width * 100.0), n: interval.n }
}

/// The results under PGD of a method, seed by seed.
pub(super) fn attacks(results: &Results<'_>, method: &MethodJobs) -> anyhow::Result<Vec<AttackResult>> {
    results.of(method, |jobs| Some(jobs.attack))
}

/// The jobs that `of` picks, of every seed of `methods`.
pub(super) fn keys<'a>(
    methods: impl IntoIterator<Item = &'a MethodJobs>,
    of: impl Fn(&SeedJobs) -> Vec<Key>,
) -> Vec<Key> {
    methods.into_iter().flat_map(|method| method.seeds.iter().flat_map(&of)).collect()
}

/// What the intervals of a report are over.
pub(super) fn interval_note(results: &Results<'_>) -> String {
    match results.profile().seeds {
        1 => "One seed: ± is half of a 95 % interval over the test images, and says nothing about another training.".into(),
        n => format!("Mean ± half of a 95 % interval over {n} seeds (Student's t)."),
    }
}

/// A radius as tables show it.
pub(crate) fn radius(epsilon: f64) -> String {
    format!("ε = {}", (epsilon * 1e4).round() / 1e4)
}
