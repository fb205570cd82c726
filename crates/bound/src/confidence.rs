//! From a sample to the population: confidence limits of means and proportions, section D of
//! docs/theory.md.
//!
//! What is averaged must be fixed before the sample is seen: the encoder, the head, and the bound. For `T`
//! heads judged on one sample use `delta / T`; for a limit made of several, as of a clean loss and of a
//! displacement measured on different samples, share `delta` out among them. A limit on displacements that an
//! *attack* reached is no upper limit of `R`.

use statrs::function::beta::beta_reg;

/// An upper confidence limit of the mean of values in `[0, top]` (Hoeffding 1963): with probability at least
/// `1 − delta` the true mean is not above. Theorem D1 (docs/theory.md).
///
/// Cross-entropy has no `top`: clip it first, or say that its mean is a figure of the sample. On the unit
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
    top * ((1.0 / delta).ln() / (2.0 * n as f64)).sqrt()
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
    let (n, log) = (n as f64, (2.0 / delta).ln());
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
    variance.sqrt() + top * (2.0 * (1.0 / delta).ln() / (values.len() as f64 - 1.0)).sqrt()
}

/// The exact lower confidence limit of a proportion with `correct` of `n`: with probability at least
/// `1 − delta` the true one is not below (Clopper and Pearson 1934). Theorem D3 (docs/theory.md).
///
/// # Panics
/// If `n` is zero or less than `correct`.
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
