//! The exact shift from draws: confidence limits for errors that are counted, Theorem C12 (docs/theory.md).

use super::gaussian_shift::shift_bound;
use super::normal::normal_quantile;
use crate::theorems::confidence::accuracy_upper;
use tarrl_tensor::math;

/// The errors of a predictor on draws of one random representation, and how far an attacker may move its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawnErrors {
    /// Errors among the first `pilot_draws`, which only choose where the bound is sharp.
    pub pilot_errors: usize,
    /// Draws before those that count.
    pub pilot_draws: usize,
    /// Errors among `draws` others.
    pub errors: usize,
    /// Draws that count; at least one.
    pub draws: usize,
    /// An upper bound of ρ, the distance of the means in deviations of the noise. What is no number bounds nothing.
    pub rho: f64,
}

/// An upper limit of the probability of an error anywhere within `rho`: with probability at least `1 − delta` over the
/// draws. Theorem C12a (docs/theory.md); for `n` samples at once use `delta / n`.
///
/// # Panics
/// If there are no draws, or more errors than draws.
#[track_caller]
pub fn drawn_bound(sample: &DrawnErrors, delta: f64) -> f64 {
    let limit = accuracy_upper(sample.errors, sample.draws, delta);
    if sample.rho.is_finite() { shift_bound(limit, sample.rho) } else { 1.0 }
}

/// An upper limit of the mean over `samples` of the probability of an error, each anywhere within its `rho`: with
/// probability at least `1 − delta` over the draws. Theorem C12b (docs/theory.md), with tangents at
/// `(pilot_errors + 1) / (pilot_draws + 2)`. At most 1.
///
/// # Panics
/// If there is no sample, one without draws, or with more errors than draws.
#[track_caller]
pub fn mean_drawn_bound(samples: &[DrawnErrors], delta: f64) -> f64 {
    assert!(!samples.is_empty(), "a mean over no samples");
    let (mut sum, mut squares) = (0.0, 0.0);
    for sample in samples {
        let DrawnErrors { pilot_errors, pilot_draws, errors, draws, rho } = *sample;
        assert!(
            errors <= draws && draws > 0 && pilot_errors <= pilot_draws,
            "{errors} errors in {draws} draws, {pilot_errors} in {pilot_draws}"
        );
        if !rho.is_finite() {
            sum += 1.0;
            continue;
        }
        let at = (pilot_errors + 1) as f64 / (pilot_draws + 2) as f64;
        let slope = math::exp(-rho * normal_quantile(at) - 0.5 * rho * rho);
        sum += shift_bound(at, rho) + slope * (errors as f64 / draws as f64 - at);
        squares += slope * slope / draws as f64;
    }
    let margin = (0.5 * math::ln(1.0 / delta) * squares).sqrt();
    let bound = (sum + margin) / samples.len() as f64;
    // Comparison rather than `min`, which would drop a NaN.
    if bound > 1.0 { 1.0 } else { bound }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Key, Stream};

    /// With Python's `n = statistics.NormalDist()`, `a = 4/102`, `s = exp(-.5*n.inv_cdf(a) - .125)`: `n.cdf(n.inv_cdf(a) + .5)
    /// + s*(.03 - a) + sqrt(log(1000)/2 * s*s/1000)`; for one sample `n.cdf(n.inv_cdf(p) + .5)` where by bisection
    /// `sum(comb(1000, k) * p**k * (1-p)**(1000-k) for k in range(31)) == 1e-3`.
    #[test]
    fn bounds_of_one_sample_match_reference_values() {
        let sample = DrawnErrors { pilot_errors: 3, pilot_draws: 100, errors: 30, draws: 1000, rho: 0.5 };
        for (found, golden) in [
            (mean_drawn_bound(&[sample], 1e-3), 0.209_284_114_8),
            (drawn_bound(&sample, 1e-3), 0.127_227_083_9),
            // Without a shift: the counted share and Hoeffding's margin, √(ln 1000 / 2000).
            (mean_drawn_bound(&[DrawnErrors { rho: 0.0, ..sample }], 1e-3), 0.03 + 0.058_769_700_0),
        ] {
            // Reference values have nine digits.
            assert!((found - golden).abs() < 1e-9, "{found} but {golden}");
        }
    }

    #[test]
    fn what_is_no_radius_bounds_nothing() {
        for rho in [f64::INFINITY, f64::NAN, 1e30] {
            let sample = DrawnErrors { pilot_errors: 0, pilot_draws: 9, errors: 0, draws: 9, rho };
            assert_eq!((drawn_bound(&sample, 0.1), mean_drawn_bound(&[sample], 0.1)), (1.0, 1.0), "{rho}");
        }
    }

    /// A count of errors with probability `p`.
    fn count(random: &mut Stream, draws: usize, p: f64) -> usize {
        (0..draws).filter(|_| random.uniform(0.0, 1.0) < p).count()
    }

    /// Half-spaces attain C4, so that the probability under attack is known: `Φ(Φ⁻¹(p) + ρ)`. A thousand sets of samples.
    #[test]
    fn c12_limits_from_draws_fail_no_more_often_than_stated() {
        let (delta, trials, n) = (0.05, 1000usize, 12);
        let (mut all, mut mean, mut close) = (0, 0, 0);
        for trial in 0..trials {
            let mut random = Key::new(61).fold(trial).stream();
            let (mut samples, mut truth) = (Vec::new(), Vec::new());
            for _ in 0..n {
                let easy = random.chance(0.6);
                let p = if easy { random.uniform(0.0, 0.02) } else { random.uniform(0.0, 1.0) };
                let rho = random.uniform(0.0, 1.5);
                let (pilot_draws, draws) = (30, 100);
                let pilot_errors = count(&mut random, pilot_draws, p);
                let errors = count(&mut random, draws, p);
                samples.push(DrawnErrors { pilot_errors, pilot_draws, errors, draws, rho });
                truth.push(shift_bound(p, rho));
            }
            let each = |s: &DrawnErrors| drawn_bound(s, delta / n as f64);
            all += usize::from(samples.iter().zip(&truth).any(|(s, p)| each(s) < *p));
            let true_mean = truth.iter().sum::<f64>() / n as f64;
            let limit = mean_drawn_bound(&samples, delta);
            mean += usize::from(limit < true_mean);
            close += usize::from(limit < samples.iter().map(each).sum::<f64>() / n as f64);
        }
        // Three standard errors of a thousand trials at δ = 5 % are 21.
        assert!(all <= 50 + 21 && mean <= 50 + 21, "{all} and {mean} of {trials}");
        // Clopper and Pearson's limits are used up by at least a tenth, and tangents are sharper in the mean.
        assert!(all >= 5 && close > trials / 2, "{all} missed, {close} closer");
    }
}
