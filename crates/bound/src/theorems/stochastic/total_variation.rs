//! Bounded losses by total variation distance, Theorem C1 (docs/theory.md).

/// `min(1, p + TV)`: the mean of any loss in `[0, 1]` under a law at the total variation distance `tv` from one
/// where it is `p`. Theorem C1 (docs/theory.md).
///
/// # Panics
/// If `p` is no probability.
#[track_caller]
pub fn additive_bound(p: f64, tv: f64) -> f64 {
    check_probability(p);
    // Comparison rather than `min`, which would drop a NaN.
    if p + tv > 1.0 { 1.0 } else { p + tv }
}

#[track_caller]
pub(super) fn check_probability(p: f64) {
    assert!((0.0..=1.0).contains(&p), "a probability, or a loss as a share of its range, of {p}");
}
