//! Table cells and labels that several artifacts share: accuracies, radii, notes on intervals.

use serde::de::DeserializeOwned;
use tarrl_eval::Interval;
use tarrl_report::Estimate;

use super::Results;
use crate::layout::{Layout, MethodJobs, SeedJobs};
use crate::profile::{Profile, Tasks};
use crate::stages::attack::AttackResult;
use tarrl_jobs::{Job, Key};

/// An accuracy in per cent from counts `(correct, n)`, one for each seed: over seeds where there are several, else over the
/// images of the one.
pub(super) fn accuracy(counts: impl IntoIterator<Item = (usize, usize)>) -> Estimate {
    let interval = Interval::of_accuracies(&counts.into_iter().collect::<Vec<_>>());
    Estimate { mean: interval.mean * 100.0, half_width: Some(interval.half_width * 100.0), n: interval.n }
}

/// The mean of one number per seed; without an interval for one seed.
pub(super) fn over_seeds(values: &[f64]) -> Estimate {
    match values {
        [value] => Estimate { mean: *value, half_width: None, n: 1 },
        _ => {
            let interval = Interval::over_seeds(values);
            Estimate { mean: interval.mean, half_width: Some(interval.half_width), n: interval.n }
        }
    }
}

/// The task settings of a profile.
///
/// # Errors
/// The rest of a sentence that begins with the id of the artifact.
pub(super) fn tasks(profile: &Profile) -> Result<&Tasks, String> {
    profile.tasks.as_ref().ok_or_else(|| "shows `tasks`; add `tasks` or remove it".to_owned())
}

/// The methods of the profile that its tasks ask, in its order.
pub(super) fn asked(layout: &Layout) -> Vec<&MethodJobs> {
    let settings = layout.context.profile.tasks.as_ref();
    layout.methods.iter().filter(|method| settings.is_none_or(|tasks| tasks.asks(&method.name))).collect()
}

/// The jobs that an artifact adds for every asked method and seed, made by `job` of the seed's jobs and their title; method by
/// method, as [`per_method`] reads them.
pub(super) fn added(
    layout: &mut Layout,
    job: impl Fn(&Layout, &SeedJobs, &str, u64) -> Vec<Job>,
) -> Vec<Key> {
    let names: Vec<String> = asked(layout).iter().map(|method| method.name.clone()).collect();
    added_for(layout, &|name| names.iter().any(|asked| asked == name), job)
}

/// As [`added`] for the methods that `asks` says, which [`per_method_of`] reads.
pub(super) fn added_for(
    layout: &mut Layout,
    asks: &dyn Fn(&str) -> bool,
    job: impl Fn(&Layout, &SeedJobs, &str, u64) -> Vec<Job>,
) -> Vec<Key> {
    let mut jobs = Vec::new();
    let shared: &Layout = layout;
    for method in shared.methods.iter().filter(|method| asks(&method.name)) {
        for (jobs_of, seed) in method.seeds.iter().zip(shared.context.profile.seeds()) {
            jobs.extend(job(shared, jobs_of, &format!("{}, seed {seed}", method.name), seed));
        }
    }
    jobs.into_iter().map(|job| layout.graph.add(job)).collect()
}

/// The results of the jobs that [`added`] made, one list for each method.
///
/// # Errors
/// If a result has another form.
pub(super) fn per_method<T: DeserializeOwned>(results: &Results<'_>) -> anyhow::Result<Vec<Vec<T>>> {
    per_method_of(results, asked(results.layout).len())
}

/// As [`per_method`] of so many methods.
///
/// # Errors
/// If a result has another form.
pub(super) fn per_method_of<T: DeserializeOwned>(
    results: &Results<'_>,
    methods: usize,
) -> anyhow::Result<Vec<Vec<T>>> {
    let each = results.jobs.len() / methods;
    let parse = |keys: &[Key]| keys.iter().map(|key| results.finished[key].parse()).collect();
    results.jobs.chunks(each).map(parse).collect()
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
