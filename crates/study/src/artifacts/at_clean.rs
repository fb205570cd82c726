//! Robust accuracy at equal clean accuracy: estimates and paired differences with bootstrap intervals.

use tarrl_eval::{Resample, half_width, resamples, robust_at_clean};
use tarrl_report::Estimate;
use tarrl_tensor::Key;

use super::Results;
use crate::layout::MethodJobs;
use crate::outcomes::Outcomes;
use crate::stages::autoattack::AutoAttackResult;
use crate::stages::best_known::BestKnownResult;
use crate::stages::frontier::FrontierResult;

/// The randomness of all resamplings; the same for every study.
fn key() -> Key {
    Key::new(0).fold("intervals")
}

/// A statistic of several methods, seed by seed and on shared resamplings of seeds and images.
pub(super) struct Paired {
    /// `[method][seed]`, in per cent; `None` where it is not defined.
    seeds: Vec<Vec<Option<f64>>>,
    /// `[method][resampling]`: the mean over the seeds that were drawn.
    resampled: Vec<Vec<Option<f64>>>,
}

impl Paired {
    /// From `statistic(method, seed, counts)`, a share for an encoder and the number of times that each of `images` images
    /// counts.
    fn new(shape: &[usize], images: usize, statistic: impl Fn(usize, usize, &[u32]) -> Option<f64>) -> Self {
        let percent = |value: Option<f64>| value.map(|v| 100.0 * v);
        let once = vec![1; images];
        let seeds: Vec<Vec<Option<f64>>> = shape
            .iter()
            .enumerate()
            .map(|(method, &count)| (0..count).map(|s| percent(statistic(method, s, &once))).collect())
            .collect();
        let draws = resamples(shape.iter().copied().min().unwrap_or(1).max(1), images, key());
        let mean = |method: usize, draw: &Resample| {
            let values = draw.seeds.iter().map(|&seed| percent(statistic(method, seed, &draw.images)));
            mean(&values.collect::<Option<Vec<f64>>>()?)
        };
        let resampled =
            (0..shape.len()).map(|method| draws.iter().map(|draw| mean(method, draw)).collect()).collect();
        Self { seeds, resampled }
    }

    /// The mean over the seeds of a method, if all of them have a value.
    pub(super) fn estimate(&self, method: usize) -> Option<Estimate> {
        let values = self.values(method)?;
        let mean = mean(&values)?;
        Some(Estimate {
            mean,
            half_width: half_width(mean, &self.resampled[method], values.len()),
            n: values.len(),
        })
    }

    /// The mean over seeds of what `subject` has more than `other`, paired by seed and image.
    pub(super) fn advantage(&self, subject: usize, other: usize) -> Option<Estimate> {
        let (ours, theirs) = (self.values(subject)?, self.values(other)?);
        let mean = mean(&ours.iter().zip(&theirs).map(|(a, b)| a - b).collect::<Vec<_>>())?;
        let pairs = self.resampled[subject].iter().zip(&self.resampled[other]);
        let replicates: Vec<Option<f64>> = pairs.map(|(a, b)| Some((*a)? - (*b)?)).collect();
        Some(Estimate { mean, half_width: half_width(mean, &replicates, ours.len()), n: ours.len() })
    }

    /// The standard deviation over the seeds of a method, if it has two.
    pub(super) fn deviation(&self, method: usize) -> Option<f64> {
        let values = self.values(method)?;
        let (n, mean) = (values.len() as f64, mean(&values)?);
        (n > 1.0).then(|| (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt())
    }

    fn values(&self, method: usize) -> Option<Vec<f64>> {
        self.seeds[method].iter().copied().collect()
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The frontiers of `methods`, seed by seed.
pub(super) fn frontiers<'a>(
    results: &Results<'_>,
    methods: impl IntoIterator<Item = &'a MethodJobs>,
) -> anyhow::Result<Vec<Vec<FrontierResult>>> {
    methods.into_iter().map(|method| results.of(method, |jobs| jobs.frontier)).collect()
}

/// Robust accuracy at the clean accuracy `clean` and the radius at place `level`, read on `frontiers[method][seed]`.
pub(super) fn robust(frontiers: &[Vec<FrontierResult>], level: usize, clean: f64) -> Paired {
    let shape: Vec<usize> = frontiers.iter().map(Vec::len).collect();
    let first = frontiers.iter().flatten().next();
    let images = first.map_or(0, |frontier| frontier.heads[0].clean.0.len());
    Paired::new(&shape, images, |method, seed, counts| {
        let frontier = &frontiers[method][seed];
        let attacked: Vec<u32> = frontier.images.iter().map(|&i| counts[i]).collect();
        let points: Option<Vec<(f64, f64)>> = frontier
            .heads
            .iter()
            .map(|head| Some((share(&head.clean, counts)?, share(&head.robust[level], &attacked)?)))
            .collect();
        robust_at_clean(&points?, clean)
    })
}

/// The largest clean accuracy of the heads of a frontier, seed by seed.
pub(super) fn most_clean(frontiers: &[FrontierResult]) -> impl Iterator<Item = (usize, usize)> {
    frontiers.iter().map(|frontier| {
        let correct = frontier.heads.iter().map(|head| head.clean.correct()).max().unwrap_or(0);
        (correct, frontier.heads[0].clean.0.len())
    })
}

/// Accuracy under AutoAttack at the radius at place `level`, of `suites[method][seed]`; not defined for a method if one of
/// its seeds had no head to attack.
pub(super) fn autoattack(suites: &[Vec<AutoAttackResult>], level: usize) -> Paired {
    let shape: Vec<usize> = suites.iter().map(Vec::len).collect();
    let images = suites.iter().flatten().map(|suite| suite.n).max().unwrap_or(0);
    Paired::new(&shape, images, |method, seed, counts| share(suites[method][seed].robust.get(level)?, counts))
}

/// Accuracy under all attacks at the radius at place `level`, of `[method][seed]`; as [`autoattack`].
pub(super) fn best_known(found: &[Vec<BestKnownResult>], level: usize) -> Paired {
    let shape: Vec<usize> = found.iter().map(Vec::len).collect();
    let images = found.iter().flatten().map(|one| one.n).max().unwrap_or(0);
    Paired::new(&shape, images, |method, seed, counts| share(found[method][seed].robust.get(level)?, counts))
}

/// The share of correct outcomes where image `i` counts `counts[i]` times; `None` if no image counts.
fn share(outcomes: &Outcomes, counts: &[u32]) -> Option<f64> {
    let all: u32 = counts.iter().sum();
    let correct: u32 = outcomes.0.iter().zip(counts).filter(|(correct, _)| **correct).map(|(_, n)| *n).sum();
    (all > 0).then(|| f64::from(correct) / f64::from(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::frontier::HeadLevel;

    /// Two heads with the first `clean` and `robust` of 100 images correct; every second image is attacked.
    fn frontier(heads: [(usize, usize); 2]) -> FrontierResult {
        let first = |count: usize, of: usize| Outcomes((0..of).map(|i| i < count).collect());
        let head = |(clean, robust)| HeadLevel {
            l2: 0.1,
            clean: first(clean, 100),
            robust: vec![first(robust, 50)],
        };
        FrontierResult { images: (0..100).step_by(2).collect(), heads: heads.map(head).to_vec() }
    }

    #[test]
    fn the_robust_accuracy_is_read_half_way_between_two_heads() {
        let ours = vec![frontier([(60, 30), (90, 20)]), frontier([(60, 32), (90, 22)])];
        let theirs = vec![frontier([(60, 20), (90, 10)]), frontier([(60, 20), (90, 10)])];
        // Far enough from the second head that every resampling reaches it.
        let found = robust(&[ours, theirs], 0, 0.75);
        // Shares are rounded to 1e-16 before they are taken times 100.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(found.estimate(0).unwrap().mean, 52.0);
        close(found.estimate(1).unwrap().mean, 30.0);
        close(found.advantage(0, 1).unwrap().mean, 22.0);
        assert_eq!(found.advantage(0, 0).unwrap().half_width, Some(0.0));
        assert!((found.deviation(0).unwrap() - 8f64.sqrt()).abs() < 1e-12);
        assert_eq!(found.deviation(1), Some(0.0));
    }

    #[test]
    fn a_method_that_misses_the_clean_accuracy_with_one_seed_has_no_number() {
        let ours = vec![frontier([(70, 30), (80, 20)]), frontier([(70, 32), (74, 22)])];
        let theirs = vec![frontier([(70, 20), (80, 10)]); 2];
        let found = robust(&[ours, theirs], 0, 0.75);
        assert!(
            found.estimate(0).is_none() && found.advantage(0, 1).is_none() && found.deviation(0).is_none()
        );
        assert!(found.estimate(1).is_some());
    }

    /// Both lose the same images, so that their difference is certain although each accuracy is not.
    #[test]
    fn differences_are_paired_by_image() {
        let suite = |correct: usize| AutoAttackResult {
            n: 100,
            clean_correct: 100,
            levels: Vec::new(),
            robust: vec![Outcomes((0..100).map(|i| i < correct).collect())],
        };
        let found = autoattack(&[vec![suite(50)], vec![suite(50)], vec![suite(48)]], 0);
        assert!(found.estimate(0).unwrap().half_width.unwrap() > 8.0);
        assert_eq!(found.advantage(0, 1).unwrap().half_width, Some(0.0));
        let small = found.advantage(0, 2).unwrap();
        assert!(small.mean == 2.0 && small.half_width.unwrap() < 5.0, "{small:?}");
    }

    #[test]
    fn a_suite_without_a_head_is_no_number() {
        let none = AutoAttackResult { n: 0, clean_correct: 0, levels: vec![], robust: vec![] };
        let some = AutoAttackResult {
            n: 2,
            clean_correct: 2,
            levels: vec![],
            robust: vec![Outcomes(vec![true, false])],
        };
        let found = autoattack(&[vec![none], vec![some]], 0);
        assert!(found.estimate(0).is_none());
        assert_eq!(found.estimate(1).unwrap().mean, 50.0);
    }
}
