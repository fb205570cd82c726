//! Intervals: how far a mean may be from the truth.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::beta::beta_reg;
use tarrl_tensor::Key;

/// What an interval is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// Independent repetitions of the whole run.
    Seeds,
    /// The samples of one test set under one run: says nothing about another run.
    Samples,
}

/// A mean with a 95 % interval `mean ± half_width`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Half the width of the interval; for an interval that is not symmetric, its longer side.
    pub half_width: f64,
    /// Number of repetitions or samples.
    pub n: usize,
    /// What `n` counts.
    pub over: Over,
}

/// The confidence of every [`Interval`].
pub const CONFIDENCE: f64 = 0.95;

impl Interval {
    /// The mean over `n ≥ 2` independent repetitions, with Student's t at `n − 1` degrees of freedom.
    ///
    /// # Panics
    /// If there are fewer than two values: one seed says nothing about another.
    #[track_caller]
    pub fn over_seeds(values: &[f64]) -> Interval {
        assert!(values.len() >= 2, "an interval over seeds needs two, not {}", values.len());
        student(values, Over::Seeds)
    }

    /// The mean over the `n ≥ 2` samples of one test set, with Student's t.
    #[track_caller]
    pub fn over_samples(values: &[f64]) -> Interval {
        assert!(values.len() >= 2, "an interval over samples needs two, not {}", values.len());
        student(values, Over::Samples)
    }

    /// The accuracy `correct / n` on one test set; the interval of Clopper and Pearson lies inside.
    #[track_caller]
    pub fn accuracy(correct: usize, n: usize) -> Interval {
        let mean = correct as f64 / n as f64;
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let (low, high) = (accuracy_lower(correct, n, tail), accuracy_upper(correct, n, tail));
        Interval { mean, half_width: (mean - low).max(high - mean), n, over: Over::Samples }
    }

    /// The cell of a table: over seeds where there are two or more accuracies, else over the samples
    /// of the only one. `runs` holds `(correct, n)` of each seed.
    ///
    /// # Panics
    /// If there is no run.
    #[track_caller]
    pub fn of_accuracies(runs: &[(usize, usize)]) -> Interval {
        match runs {
            [(correct, n)] => Interval::accuracy(*correct, *n),
            _ => Interval::over_seeds(&runs.iter().map(|&(c, n)| c as f64 / n as f64).collect::<Vec<_>>()),
        }
    }
}

/// The exact lower confidence limit of a proportion with `correct` of `n`: with probability at least
/// `1 − delta` the true one is not below (Clopper and Pearson, 1934).
#[track_caller]
pub fn accuracy_lower(correct: usize, n: usize, delta: f64) -> f64 {
    assert!(correct <= n && n > 0, "{correct} correct of {n} samples");
    if correct == 0 {
        return 0.0;
    }
    // The probability of `correct` or more successes, increasing in p.
    bisect(|p| beta_reg(correct as f64, (n - correct + 1) as f64, p) < delta)
}

/// The exact upper confidence limit of a proportion, as [`accuracy_lower`].
#[track_caller]
pub fn accuracy_upper(correct: usize, n: usize, delta: f64) -> f64 {
    1.0 - accuracy_lower(n - correct, n, delta)
}

/// An upper confidence limit of the mean of values in `[0, top]` (Hoeffding, 1963).
///
/// Cross-entropy has no `top`: clip it first, or say that its mean is a figure of the sample.
#[track_caller]
pub fn hoeffding_upper(values: &[f64], top: f64, delta: f64) -> f64 {
    let (mean, _) = moments(values, top);
    mean + top * ((1.0 / delta).ln() / (2.0 * values.len() as f64)).sqrt()
}

/// An upper confidence limit of the mean of values in `[0, top]` that gains from a small variance
/// (empirical Bernstein bound, Maurer and Pontil, arXiv 0907.3740).
#[track_caller]
pub fn bernstein_upper(values: &[f64], top: f64, delta: f64) -> f64 {
    let (mean, variance) = moments(values, top);
    bernstein(mean, variance, values.len(), top, delta)
}

/// The percentile interval `(low, high)` of a statistic at [`CONFIDENCE`], from `resamples` draws with
/// replacement.
///
/// # Panics
/// If there is no value or no resample.
#[track_caller]
pub fn bootstrap(
    values: &[f64],
    statistic: &dyn Fn(&[f64]) -> f64,
    resamples: usize,
    key: Key,
) -> (f64, f64) {
    assert!(!values.is_empty() && resamples > 0, "bootstrap: {} values, {resamples} draws", values.len());
    let mut found: Vec<f64> = (0..resamples)
        .map(|draw| {
            let mut stream = key.fold("bootstrap").fold(draw).stream();
            let sample: Vec<f64> = values.iter().map(|_| values[stream.below(values.len())]).collect();
            statistic(&sample)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let at = |share: f64| found[((resamples as f64 * share) as usize).min(resamples - 1)];
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (at(tail), at(1.0 - tail))
}

fn student(values: &[f64], over: Over) -> Interval {
    let n = values.len();
    let (mean, variance) = moments(values, f64::INFINITY);
    let law = StudentsT::new(0.0, 1.0, (n - 1) as f64).expect("a positive number of degrees of freedom");
    let quantile = law.inverse_cdf(0.5 + CONFIDENCE / 2.0);
    Interval { mean, half_width: quantile * (variance / n as f64).sqrt(), n, over }
}

fn bernstein(mean: f64, variance: f64, n: usize, top: f64, delta: f64) -> f64 {
    let (n, log) = (n as f64, (2.0 / delta).ln());
    mean + (2.0 * variance * log / n).sqrt() + 7.0 * top * log / (3.0 * (n - 1.0))
}

/// Mean and unbiased variance of values that are at most `top`.
#[track_caller]
fn moments(values: &[f64], top: f64) -> (f64, f64) {
    let n = values.len() as f64;
    assert!(values.iter().all(|&v| v <= top), "a value above the stated largest, {top}");
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0))
}

/// The point of [0, 1] where a condition that holds below and fails above changes, rounded down.
fn bisect(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return low;
        }
        if below(middle) { low = middle } else { high = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: [f64; 10] = [0.1, 0.4, 0.2, 0.3, 0.0, 0.25, 0.15, 0.35, 0.05, 0.2];

    fn close(a: f64, b: f64, relative: f64) {
        assert!((a - b).abs() <= relative * b.abs(), "{a} is not {b}");
    }

    /// Computed in double precision by another program.
    #[test]
    fn confidence_limits_of_a_sample() {
        close(accuracy_lower(93, 100, 0.05), 0.8725419844170297, 1e-12);
        close(hoeffding_upper(&SAMPLE, 1.0, 0.05), 0.587022756020495, 1e-12);
        close(bernstein_upper(&SAMPLE, 1.0, 0.05), 1.2672646791857776, 1e-12);
        close(bernstein(0.2, 1.0 / 60.0, 1000, 1.0, 0.05), 0.21970485383587662, 1e-12);
    }

    #[test]
    fn no_success_and_no_failure() {
        assert_eq!((accuracy_lower(0, 9, 0.05), accuracy_upper(9, 9, 0.05)), (0.0, 1.0));
        // All correct: pⁿ = delta.
        close(accuracy_lower(9, 9, 0.05), 0.05f64.powf(1.0 / 9.0), 1e-12);
    }

    /// The exact binomial coverage, by summing over every outcome.
    #[test]
    fn coverage_is_never_below_the_stated() {
        for (n, p) in [(50usize, 0.02f64), (50, 0.5), (50, 0.93), (200, 0.02), (200, 0.93)] {
            let (mut below, mut log_choose) = (0.0, 0.0f64);
            for k in 0..=n {
                let chance = (log_choose + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp();
                if accuracy_lower(k, n, 0.05) > p {
                    below += chance;
                }
                log_choose += ((n - k) as f64 / (k + 1) as f64).ln();
            }
            assert!(below <= 0.05 + 1e-12, "{n} {p}: {below}");
        }
    }

    /// Quantiles of Student's t from tables: 2 and 5 values.
    #[test]
    fn means_over_seeds() {
        let two = Interval::over_seeds(&[1.0, 3.0]);
        close(two.half_width, 12.706204736432095, 1e-9);
        let five = Interval::over_seeds(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        close(five.half_width, 2.7764451051977987 * 0.5f64.sqrt(), 1e-9);
        assert_eq!((five.mean, five.n, five.over), (3.0, 5, Over::Seeds));
        assert_eq!(Interval::over_samples(&[2.0, 2.0]).half_width, 0.0);
    }

    #[test]
    fn one_seed_speaks_of_samples() {
        let one = Interval::of_accuracies(&[(93, 100)]);
        assert_eq!((one.over, one.n, one.mean), (Over::Samples, 100, 0.93));
        assert!(one.mean - one.half_width <= accuracy_lower(93, 100, 0.025) + 1e-15);
        assert_eq!(Interval::of_accuracies(&[(93, 100), (91, 100)]).over, Over::Seeds);
    }

    #[test]
    #[should_panic(expected = "needs two, not 1")]
    fn one_seed_has_no_interval_over_seeds() {
        Interval::over_seeds(&[1.0]);
    }

    #[test]
    fn the_bootstrap_of_a_mean_is_near_the_normal_interval() {
        let mut s = Key::new(3).stream();
        let values: Vec<f64> = (0..400).map(|_| s.normal()).collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (low, high) = bootstrap(&values, &mean, 2000, Key::new(4));
        let want = Interval::over_samples(&values);
        // A quantile of 2000 draws has a relative error of some per cent of the width; ten allowed.
        assert!((0.5 * (high - low) / want.half_width - 1.0).abs() < 0.1, "{low} {high} {want:?}");
        assert!(low < want.mean && want.mean < high);
        assert_eq!(bootstrap(&values, &mean, 2000, Key::new(4)), (low, high));
    }

    proptest! {
        #[test]
        fn accuracy_intervals_hold_the_exact_limits(n in 1usize..400, share in 0.0f64..=1.0) {
            let correct = (n as f64 * share) as usize;
            let i = Interval::accuracy(correct, n);
            prop_assert!(i.mean - i.half_width <= accuracy_lower(correct, n, 0.025) + 1e-15);
            prop_assert!(i.mean + i.half_width >= accuracy_upper(correct, n, 0.025) - 1e-15);
        }
    }
}
