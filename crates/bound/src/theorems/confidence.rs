//! Confidence limits of means and proportions: from a sample to the population, section D of docs/theory.md.
//!
//! What is averaged must be fixed before the sample is seen: the encoder, the head, and the bound. For `T`
//! heads evaluated on one sample use `delta / T`; for a limit made of several, as of a clean loss and of a
//! displacement measured on different samples, share `delta` out among them. A limit on displacements that an
//! *attack* reached is no upper limit of `R`.

use crate::numerics::incomplete_beta::incomplete_beta;
use tarrl_tensor::math;

/// An upper confidence limit of the mean of values in `[0, top]` (Hoeffding 1963): with probability at least
/// `1 − delta` the true mean is not above. Theorem D1 (docs/theory.md).
///
/// Cross-entropy has no `top`: clip it first, or report its mean for the sample alone. On the unit
/// sphere displacements have `top = 2`.
///
/// # Panics
/// If there is no value, or one outside `[0, top]`.
#[track_caller]
pub fn hoeffding_upper(values: &[f64], top: f64, delta: f64) -> f64 {
    moments(values, top).0 + hoeffding_margin(values.len(), top, delta)
}

/// `top √(ln(1/δ) / (2n))`: how far the mean of `n` values may lie below the true one, Theorem D1
/// (docs/theory.md).
pub fn hoeffding_margin(n: usize, top: f64, delta: f64) -> f64 {
    top * (math::ln(1.0 / delta) / (2.0 * n as f64)).sqrt()
}

/// As [`hoeffding_upper`], with a gain from a small variance (Maurer and Pontil, arXiv 0907.3740): better from
/// some hundreds of values on, worse for thirty. Theorem D2 (docs/theory.md).
///
/// # Panics
/// If there are fewer than two values, or one is outside `[0, top]`.
#[track_caller]
pub fn bernstein_upper(values: &[f64], top: f64, delta: f64) -> f64 {
    let (mean, variance) = moments(values, top);
    mean + bernstein_margin(variance, values.len(), top, delta)
}

/// `√(2 V ln(2/δ) / n) + 7 top ln(2/δ) / (3(n − 1))` with `V` the unbiased variance of `n` values, Theorem D2
/// (docs/theory.md).
///
/// # Panics
/// If `n` is less than two.
#[track_caller]
pub fn bernstein_margin(variance: f64, n: usize, top: f64, delta: f64) -> f64 {
    assert!(n >= 2, "a variance takes two values, not {n}");
    let (n, log) = (n as f64, math::ln(2.0 / delta));
    (2.0 * variance * log / n).sqrt() + 7.0 * top * log / (3.0 * (n - 1.0))
}

/// An upper confidence limit of the standard deviation of values in `[0, top]`: `sd + top √(2 ln(1/δ)/(n − 1))`
/// (Maurer and Pontil). Theorem D2 (docs/theory.md).
///
/// # Panics
/// As [`bernstein_upper`].
#[track_caller]
pub fn deviation_upper(values: &[f64], top: f64, delta: f64) -> f64 {
    assert!(values.len() >= 2, "a variance takes two values, not {}", values.len());
    let (_, variance) = moments(values, top);
    variance.sqrt() + top * (2.0 * math::ln(1.0 / delta) / (values.len() as f64 - 1.0)).sqrt()
}

/// The exact lower confidence limit of a proportion with `correct` of `n`: with probability at least
/// `1 − delta` the true one is not below (Clopper and Pearson 1934). Theorem D3 (docs/theory.md).
///
/// It is never above `correct / n`, and known to a ten-thousandth of a standard error.
///
/// # Panics
/// If `n` is zero, less than `correct`, or above 10¹⁰, where the incomplete beta function loses its digits.
#[track_caller]
pub fn accuracy_lower(correct: usize, n: usize, delta: f64) -> f64 {
    assert!(correct <= n && n > 0, "{correct} correct of {n} samples");
    assert!(n as f64 <= LARGEST_COUNT, "no confidence limit is computed for {n} samples; take at most 10¹⁰");
    if correct == 0 {
        return 0.0;
    }
    let (k, failures, share) = (correct as f64, (n - correct) as f64, correct as f64 / n as f64);
    // The probability of `correct` or more successes, increasing in p.
    bisect(|p| p < share && incomplete_beta(k, failures + 1.0, p) < delta)
}

const LARGEST_COUNT: f64 = 1e10;

/// The exact upper confidence limit of a proportion, as [`accuracy_lower`].
///
/// # Panics
/// As [`accuracy_lower`].
#[track_caller]
pub fn accuracy_upper(correct: usize, n: usize, delta: f64) -> f64 {
    assert!(correct <= n && n > 0, "{correct} correct of {n} samples");
    1.0 - accuracy_lower(n - correct, n, delta)
}

/// Mean and unbiased variance of values in `[0, top]`.
#[track_caller]
fn moments(values: &[f64], top: f64) -> (f64, f64) {
    assert!(!values.is_empty(), "a mean of no values");
    if let Some(value) = values.iter().find(|v| !(0.0..=top).contains(*v)) {
        panic!("a value of {value}, outside the stated range [0, {top}]");
    }
    let n = values.len() as f64;
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

    const SAMPLE: [f64; 10] = [0.1, 0.4, 0.2, 0.3, 0.0, 0.25, 0.15, 0.35, 0.05, 0.2];

    /// Within some thousand roundings of f64, for reference values given with sixteen digits.
    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} is not {b}");
    }

    /// Computed in double precision by another program.
    #[test]
    fn limits_of_ten_values_match_reference_values() {
        let (mean, variance) = moments(&SAMPLE, 1.0);
        close(mean, 0.2);
        close(variance, 0.016666666666666666);
        close(hoeffding_upper(&SAMPLE, 1.0, 0.05), 0.587022756020495);
        close(bernstein_upper(&SAMPLE, 1.0, 0.05), 1.2672646791857776);
        close(0.2 + hoeffding_margin(1000, 1.0, 0.05), 0.2387022756020495);
        close(0.2 + bernstein_margin(1.0 / 60.0, 1000, 1.0, 0.05), 0.21970485383587662);
        close(accuracy_lower(93, 100, 0.05), 0.8725419844170297);
        // √(1/60) + √(2 ln 20 / 9).
        close(deviation_upper(&SAMPLE, 1.0, 0.05), (1.0f64 / 60.0).sqrt() + (2.0 * 20f64.ln() / 9.0).sqrt());
    }

    /// At half the limits are `½ ∓ (z/(2√n) + 1/(2n))` to the digits shown.
    #[test]
    fn limits_of_many_millions_of_samples_stay_on_their_side_of_the_share() {
        let (lower, upper) =
            (accuracy_lower(20_000_000, 40_000_000, 0.05), accuracy_upper(20_000_000, 40_000_000, 0.05));
        assert!((lower - 0.4998700).abs() < 5e-8 && (upper - 0.5001300).abs() < 5e-8, "{lower} {upper}");
        for n in [100_000usize, 3_000_000, 1_000_000_000, 10_000_000_000] {
            for correct in [1, n / 1000, n / 3, n / 2, n - n / 50, n - 1, n] {
                let (lower, upper) = (accuracy_lower(correct, n, 0.025), accuracy_upper(correct, n, 0.025));
                let share = correct as f64 / n as f64;
                assert!(lower < share && upper >= share, "{correct} of {n}: {lower} {upper}");
                // Where the distribution is nearly normal.
                if correct >= 100_000 && n - correct >= 100_000 {
                    let error = (share * (1.0 - share) / n as f64).sqrt();
                    for z in [(share - lower) / error, (upper - share) / error] {
                        assert!((z - 1.959964).abs() < 0.02, "{correct} of {n}: {z}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "take at most 10¹⁰")]
    fn more_samples_than_the_limit_is_exact_for_are_refused() {
        accuracy_lower(1, usize::MAX, 0.05);
    }

    #[test]
    fn limits_without_success_and_without_failure() {
        assert_eq!((accuracy_lower(0, 9, 0.05), accuracy_upper(9, 9, 0.05)), (0.0, 1.0));
        // All correct: pⁿ = delta.
        close(accuracy_lower(9, 9, 0.05), 0.05f64.powf(1.0 / 9.0));
    }

    /// The coverage, by summing over every outcome of `n` coins: no limit fails more often than stated.
    #[test]
    fn coverage_is_never_below_the_stated() {
        let delta = 0.05;
        for n in [50usize, 500] {
            for p in [0.02f64, 0.5, 0.93] {
                let mut missed = [0.0; 5];
                let mut log_choose = 0.0f64;
                for k in 0..=n {
                    let chance = (log_choose + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp();
                    let mean = k as f64 / n as f64;
                    let variance = mean * (1.0 - mean) * n as f64 / (n as f64 - 1.0);
                    let deviation = variance.sqrt() + (2.0 * 20f64.ln() / (n as f64 - 1.0)).sqrt();
                    let misses = [
                        accuracy_lower(k, n, delta) > p,
                        accuracy_upper(k, n, delta) < p,
                        mean + hoeffding_margin(n, 1.0, delta) < p,
                        mean + bernstein_margin(variance, n, 1.0, delta) < p,
                        deviation < (p * (1.0 - p)).sqrt(),
                    ];
                    for (sum, miss) in missed.iter_mut().zip(misses) {
                        *sum += if miss { chance } else { 0.0 };
                    }
                    log_choose += ((n - k) as f64 / (k + 1) as f64).ln();
                }
                assert!(missed.iter().all(|m| *m <= delta + 1e-12), "{n} {p}: {missed:?}");
                // The exact limit is not wasteful: with n·p well inside it misses at least half as often.
                assert!(n < 500 || p < 0.1 || missed[0] > delta / 2.0, "{n} {p}: {missed:?}");
            }
        }
    }

    /// With a twentieth less margin Clopper and Pearson's limit would miss too often.
    #[test]
    fn the_clopper_pearson_limit_cannot_be_sharper_by_a_twentieth() {
        // The true proportion that all of 20 coins succeed at with probability just above delta.
        let p = 0.0501f64.powf(1.0 / 20.0);
        let limit = accuracy_lower(20, 20, 0.05);
        assert!(limit <= p && 1.0 - 0.95 * (1.0 - limit) > p);
    }

    #[test]
    #[should_panic(expected = "outside the stated range [0, 1]")]
    fn a_loss_above_the_stated_range_is_refused() {
        hoeffding_upper(&[0.5, 1.5], 1.0, 0.05);
    }

    #[test]
    #[should_panic(expected = "a value of NaN")]
    fn a_nan_is_refused() {
        bernstein_upper(&[0.5, f64::NAN], 1.0, 0.05);
    }
}
