//! Confidence intervals of means and accuracies, over seeds or over samples.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};
use tarrl_bound::confidence::{accuracy_lower, accuracy_upper};
use tarrl_bound::stochastic::normal_quantile;

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

    /// The interval of accuracies: over seeds where there are two or more accuracies, else over the samples
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

fn student(values: &[f64], over: Over) -> Interval {
    let n = values.len();
    let (mean, variance) = moments(values);
    Interval { mean, half_width: t_quantile(n - 1) * (variance / n as f64).sqrt(), n, over }
}

/// The quantile of Student's t at `0.5 + CONFIDENCE / 2`.
fn t_quantile(degrees: usize) -> f64 {
    let (nu, p) = (degrees as f64, 0.5 + CONFIDENCE / 2.0);
    if degrees <= FEW_DEGREES {
        let law = StudentsT::new(0.0, 1.0, nu).expect("a positive number of degrees of freedom");
        return law.inverse_cdf(p);
    }
    // The first terms of the expansion about the normal quantile (Abramowitz and Stegun, 26.7.5).
    let z = normal_quantile(p);
    z + (z.powi(3) + z) / (4.0 * nu) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * nu * nu)
}

/// Degrees of freedom up to which statrs inverts the distribution; with more, the expansion has an error below 1e-14.
const FEW_DEGREES: usize = 20_000;

/// Mean and unbiased variance.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64, relative: f64) {
        assert!((a - b).abs() <= relative * b.abs(), "{a} is not {b}");
    }

    /// Quantiles of Student's t from tables: 2 and 5 values.
    #[test]
    fn intervals_over_seeds_match_tabulated_quantiles_of_students_t() {
        let two = Interval::over_seeds(&[1.0, 3.0]);
        close(two.half_width, 12.706204736432095, 1e-9);
        let five = Interval::over_seeds(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        close(five.half_width, 2.7764451051977987 * 0.5f64.sqrt(), 1e-9);
        assert_eq!((five.mean, five.n, five.over), (3.0, 5, Over::Seeds));
        assert_eq!(Interval::over_samples(&[2.0, 2.0]).half_width, 0.0);
    }

    #[test]
    fn quantiles_at_any_number_of_degrees() {
        // From tables, to the digits given.
        for (degrees, quantile) in [(10, 2.228139), (100, 1.983972), (1000, 1.962339), (10_000, 1.960201)] {
            assert!((t_quantile(degrees) - quantile).abs() < 1e-6, "{degrees}: {}", t_quantile(degrees));
        }
        close(t_quantile(FEW_DEGREES), t_quantile(FEW_DEGREES + 1), 1e-8);
        let mut before = f64::INFINITY;
        for degrees in [1, 10, 1000, FEW_DEGREES, FEW_DEGREES + 1, 10_000_000, usize::MAX] {
            assert!(t_quantile(degrees) < before, "{degrees}");
            before = t_quantile(degrees);
        }
        close(before, 1.959963984540054, 1e-12);
    }

    #[test]
    fn one_seed_gives_an_interval_over_samples() {
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
