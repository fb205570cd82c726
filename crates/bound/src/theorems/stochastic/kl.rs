//! Kullback–Leibler divergence: from KL to total variation and to means of bounded losses.

use super::total_variation::check_probability;
use tarrl_tensor::math;

/// `√(KL/2) ≥ TV` (Pinsker), for either direction of the divergence: Theorem C2 (docs/theory.md). The mean over
/// samples of the root is at most the root of the mean. Says nothing from a divergence of 2 on.
pub fn pinsker(kl: f64) -> f64 {
    (0.5 * kl).sqrt()
}

/// `√(1 − e^{−KL}) ≥ TV` (Bretagnolle and Huber 1979): Theorem C6 (docs/theory.md). Less than [`pinsker`] from a
/// divergence of 1.5936 on, and always below 1.
pub fn bretagnolle_huber(kl: f64) -> f64 {
    (-math::exp_m1(-kl)).sqrt()
}

/// The Kullback–Leibler divergence of two Bernoulli laws, `p ln(p/q) + (1−p) ln((1−p)/(1−q))`.
///
/// # Panics
/// If an argument is no probability.
#[track_caller]
pub fn bernoulli_kl(p: f64, q: f64) -> f64 {
    check_probability(p);
    check_probability(q);
    // The first-order terms of both logarithms cancel; without them both parts are positive.
    part(p, q - p) + part(1.0 - p, p - q)
}

/// `sup { q ≥ p : kl(p, q) ≤ K }`: the largest mean of a loss in `[0, 1]` whose mean under `P` is `p`, if
/// `KL(P ‖ P') ≤ K`. Rounded up. Theorem C5 (docs/theory.md).
///
/// # Panics
/// If `p` is no probability.
#[track_caller]
pub fn kl_upper(p: f64, kl: f64) -> f64 {
    above(p, |q| bernoulli_kl(p, q) <= kl)
}

/// `sup { q ≥ p : kl(q, p) ≤ K }`: as [`kl_upper`], if `KL(P' ‖ P) ≤ K`. Rounded up. Theorem C5
/// (docs/theory.md).
///
/// # Panics
/// If `p` is no probability.
#[track_caller]
pub fn kl_upper_reverse(p: f64, kl: f64) -> f64 {
    above(p, |q| bernoulli_kl(q, p) <= kl)
}

/// The least number above all `q` from `p` on that are inside, by bisection down to neighbors; 1 if there is
/// no such number.
#[track_caller]
fn above(p: f64, inside: impl Fn(f64) -> bool) -> f64 {
    check_probability(p);
    let (mut low, mut high) = (p, 1.0);
    // NaN is inside nothing, and yet must not end as `p`.
    if inside(1.0) || !inside(p) {
        return 1.0;
    }
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return high;
        }
        if inside(middle) { low = middle } else { high = middle }
    }
}

/// `a ln(a / (a + x)) + x`, not negative; infinity if `a + x` is zero and `a` is not.
fn part(a: f64, x: f64) -> f64 {
    if a == 0.0 { x } else { a * excess(x / a) }
}

/// `t − ln(1 + t) ≥ 0`, without cancellation where t is small.
fn excess(t: f64) -> f64 {
    if t.abs() > 0.1 {
        return t - math::ln_1p(t);
    }
    // Σ_{i≥2} (−1)ⁱ tⁱ/i; twenty terms leave 0.1²⁰.
    (2..22).rev().fold(0.0, |sum, i| 1.0 / f64::from(i) - t * sum) * t * t
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By arithmetic of forty digits.
    #[test]
    fn bernoulli_kl_matches_forty_digit_arithmetic() {
        for (p, q, golden) in [
            (0.5, 0.5000001, 1.9999999978946166e-14),
            (0.1, 0.3, 0.11632175658600448),
            (0.999, 0.9, 0.0996504851229304),
            (1e-09, 2e-09, 3.068528199400547e-10),
            (0.25, 0.27, 0.0010312440069074042),
        ] {
            let found: f64 = bernoulli_kl(p, q);
            assert!((found / golden - 1.0).abs() < 1e-14, "{p} {q}: {found:e} but {golden:e}");
        }
        assert_eq!(bernoulli_kl(0.3, 0.3), 0.0);
        assert_eq!((bernoulli_kl(0.5, 0.0), bernoulli_kl(0.0, 0.0)), (f64::INFINITY, 0.0));
    }

    #[test]
    fn a_nan_divergence_gives_the_trivial_bound() {
        assert_eq!((kl_upper(0.2, f64::NAN), kl_upper_reverse(0.2, f64::NAN)), (1.0, 1.0));
        assert_eq!(kl_upper(0.2, f64::INFINITY), 1.0);
        assert!(kl_upper_reverse(0.0, 1.0) < 1e-300, "what never happens under P does not under P'");
    }
}
