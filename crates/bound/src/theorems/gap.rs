//! Logit-gap bounds: the cross-entropy as a function of the gaps between logits, and its bounds when they move.
//!
//! `gaps[j] = logit_j − logit_label`, so that `gaps[label] = 0`. `supports[j]` is an upper bound, zero or
//! more, of how far gap `j` can increase over the ball: from a radius and a constant of the head, or from a
//! certificate in the direction of the gap. All `(k)`.

use crate::numerics::stable::{largest, log_sum_exp, log1p_sum_exp, softplus};

/// The cross-entropy in nats, from the gaps: exact where it is tiny.
///
/// # Panics
/// If the label is out of range.
#[track_caller]
pub fn loss(gaps: &[f64], label: usize) -> f64 {
    check(gaps, label);
    log1p_sum_exp(others(gaps, label))
}

/// `L + max(0, max_j s_j)`: Theorem A1 (docs/theory.md), the additive bound.
///
/// # Panics
/// If the label is out of range or there are not as many supports as gaps.
#[track_caller]
pub fn additive_bound(gaps: &[f64], label: usize, supports: &[f64]) -> f64 {
    loss(gaps, label) + worst(gaps, label, supports)
}

/// `ln(1 + (eᴸ − 1) eˢ)` with `S = max(0, max_j s_j)`: the middle of Theorem A2 (docs/theory.md). Of the
/// clean point it needs the loss alone.
///
/// # Panics
/// As [`additive_bound`].
#[track_caller]
pub fn odds_bound(gaps: &[f64], label: usize, supports: &[f64]) -> f64 {
    let worst = worst(gaps, label, supports);
    softplus(log_sum_exp(others(gaps, label)) + worst)
}

/// `ln(1 + Σ_{j≠y} e^{m_j + s_j})`: Theorem A2 (docs/theory.md), the bound to report.
///
/// # Panics
/// As [`additive_bound`].
#[track_caller]
pub fn logit_gap_bound(gaps: &[f64], label: usize, supports: &[f64]) -> f64 {
    worst(gaps, label, supports);
    let moved: Vec<f64> = gaps.iter().zip(supports).map(|(m, s)| m + s).collect();
    log1p_sum_exp(others(&moved, label))
}

/// Whether no point of the ball is classified otherwise: `m_j + s_j < 0` for every other class, Theorem B2
/// (docs/theory.md). A tie counts as an error, and a NaN certifies nothing.
///
/// # Panics
/// As [`additive_bound`].
#[track_caller]
pub fn is_certified(gaps: &[f64], label: usize, supports: &[f64]) -> bool {
    worst(gaps, label, supports);
    gaps.iter().zip(supports).enumerate().all(|(j, (m, s))| j == label || m + s < 0.0)
}

/// The largest support of another class, and zero, which no displacement attains.
#[track_caller]
fn worst(gaps: &[f64], label: usize, supports: &[f64]) -> f64 {
    assert_eq!(supports.len(), gaps.len(), "head: {} supports for {} classes", supports.len(), gaps.len());
    check(gaps, label);
    largest(others(supports, label).chain([0.0]))
}

#[track_caller]
fn check(gaps: &[f64], label: usize) {
    assert!(label < gaps.len(), "head: label {label} of {} classes", gaps.len());
}

fn others(v: &[f64], label: usize) -> impl Iterator<Item = f64> + Clone {
    v.iter().enumerate().filter(move |(j, _)| *j != label).map(|(_, v)| *v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_or_a_nan_certifies_nothing() {
        assert!(is_certified(&[0.0, -1.0], 0, &[0.0, 0.5]));
        assert!(!is_certified(&[0.0, -1.0], 0, &[0.0, 1.0]), "a tie");
        assert!(!is_certified(&[0.0, -1.0], 0, &[0.0, f64::NAN]));
        assert!(!is_certified(&[0.0, f64::NAN], 0, &[0.0, 0.0]));
        assert!(logit_gap_bound(&[0.0, -1.0], 0, &[0.0, f64::NAN]).is_nan());
    }

    #[test]
    #[should_panic(expected = "2 supports for 3 classes")]
    fn supports_of_another_head_are_refused() {
        logit_gap_bound(&[0.0, 1.0, 2.0], 0, &[0.0, 1.0]);
    }
}
