//! Model selection: how strongly a head is regularized, by a rule that is continuous in the validation losses.

use serde::{Deserialize, Serialize};
use tarrl_tensor::math;

/// One weight of the squared norm and how it did on the validation part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The weight.
    pub l2: f64,
    /// Mean cross-entropy on the validation part, in nats.
    pub loss: f64,
    /// Accuracy on the validation part.
    pub accuracy: f64,
}

/// The weight of the squared norm that `path`, strongest first, speaks for: the strongest one whose validation
/// cross-entropy lies within `slack` nats of the least, between candidates as well as at them.
///
/// Weaker regularization than that of the least loss would gain nothing; somewhat stronger regularization loses next to
/// nothing of the clean accuracy, while the norm of the head, which multiplies every displacement of the representation
/// (Theorem A1, docs/theory.md), keeps falling. With `t = ln l2`, `L` the lower convex envelope of the points
/// `(t, loss)`, and `m` its minimum, the choice is the largest `t` with `L(t) ≤ m + slack`.
///
/// Unlike a rule that picks one of the candidates, it has no jump: losses that change by at most `δ` change `m` and every
/// `L(t)` by at most `δ`, and since `L` is convex and rises by `slack` within the length `T` of the path, the choice moves
/// by at most `2 δ T / slack`.
///
/// # Panics
/// If the path is empty, does not fall, or has a weight of 0 or a loss that is not finite beside another candidate.
#[track_caller]
pub(crate) fn choose_l2(path: &[Candidate], slack: f64) -> f64 {
    assert!(!path.is_empty(), "choose_l2: no candidate");
    if let [only] = path {
        return only.l2;
    }
    let points: Vec<(f64, f64)> = path.iter().map(|c| (math::ln(c.l2), c.loss)).collect();
    assert!(
        points.iter().all(|p| p.0.is_finite() && p.1.is_finite())
            && points.windows(2).all(|w| w[0].0 > w[1].0),
        "choose_l2: weights have to fall and stay above 0, losses to be finite: {path:?}"
    );
    let envelope = lower_envelope(&points);
    let limit = envelope.iter().map(|p| p.1).fold(f64::INFINITY, f64::min) + slack;
    let inside = envelope.iter().position(|p| p.1 <= limit).expect("the least loss is within the slack");
    if inside == 0 {
        return path[0].l2;
    }
    let (outer, inner) = (envelope[inside - 1], envelope[inside]);
    let share = (outer.1 - limit) / (outer.1 - inner.1);
    math::exp(outer.0 + share * (inner.0 - outer.0))
}

/// The corners of the lower convex envelope of `points`, which are ordered by their first coordinate, falling.
fn lower_envelope(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for &point in points {
        // A corner that lies on or above the line between its neighbors is none.
        while let [.., a, b] = corners[..] {
            let line = a.1 + (point.1 - a.1) * (b.0 - a.0) / (point.0 - a.0);
            if b.1 < line {
                break;
            }
            corners.pop();
        }
        corners.push(point);
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(losses: &[f64]) -> Vec<Candidate> {
        let at =
            |(i, &loss): (usize, &f64)| Candidate { l2: 10f64.powf(-0.25 * i as f64), loss, accuracy: 0.5 };
        losses.iter().enumerate().map(at).collect()
    }

    #[test]
    fn the_choice_lies_where_the_line_between_two_candidates_meets_the_limit() {
        // The limit 0.51 is met a tenth before the second candidate: 0.6 - 0.9 · 0.1.
        let chosen = choose_l2(&path(&[0.6, 0.5, 0.52]), 0.01);
        assert!((chosen - 10f64.powf(-0.225)).abs() < 1e-12, "{chosen}");
    }

    #[test]
    fn a_path_that_begins_within_the_slack_gives_its_strongest_weight() {
        assert_eq!(choose_l2(&path(&[0.505, 0.5, 0.6]), 0.01), 1.0);
        assert_eq!(choose_l2(&path(&[0.7]), 0.01), 1.0);
    }

    #[test]
    fn a_bump_above_the_envelope_changes_nothing() {
        let straight = choose_l2(&path(&[0.9, 0.8, 0.65, 0.5]), 0.02);
        assert_eq!(straight, choose_l2(&path(&[0.9, 0.9, 0.7, 0.5]), 0.02));
    }

    #[test]
    #[should_panic(expected = "losses to be finite")]
    fn a_loss_that_is_not_finite_is_a_bug() {
        choose_l2(&path(&[f64::NAN, 0.5]), 0.01);
    }

    proptest! {
        /// Two times the change of the losses, times the length of the path over the slack.
        #[test]
        fn a_change_of_the_losses_moves_the_choice_by_no_more_than_the_stated_bound(
            losses in proptest::collection::vec((0.3f64..2.5, -1.0f64..1.0), 2..24),
            slack in 1e-3f64..0.1, log_change in -7.0f64..-1.0,
        ) {
            let change = 10f64.powf(log_change);
            let before: Vec<f64> = losses.iter().map(|l| l.0).collect();
            let after: Vec<f64> = losses.iter().map(|l| l.0 + change * l.1).collect();
            let moved = (choose_l2(&path(&before), slack) / choose_l2(&path(&after), slack)).ln().abs();
            let length = 0.25 * std::f64::consts::LN_10 * (losses.len() - 1) as f64;
            prop_assert!(moved <= 2.0 * change * length / slack + 1e-9, "{}", moved);
        }

        /// Losses in another unit, with the slack in that unit, and weights times a constant.
        #[test]
        fn the_choice_follows_the_scale_of_losses_and_weights(
            losses in proptest::collection::vec(0.3f64..2.5, 2..12), offset in -1.0f64..1.0,
            factor in 0.1f64..10.0, weight in 0.01f64..100.0,
        ) {
            let here = path(&losses);
            let there: Vec<Candidate> = here
                .iter()
                .map(|c| Candidate { l2: weight * c.l2, loss: factor * (c.loss + offset), ..*c })
                .collect();
            let (a, b) = (weight * choose_l2(&here, 0.02), choose_l2(&there, factor * 0.02));
            prop_assert!((a / b).ln().abs() < 1e-6, "{} {}", a, b);
        }

        #[test]
        fn more_slack_never_weakens_the_regularization(
            losses in proptest::collection::vec(0.3f64..2.5, 2..12), slack in 0.0f64..0.2, more in 0.0f64..0.2,
        ) {
            let path = path(&losses);
            let (small, large) = (choose_l2(&path, slack), choose_l2(&path, slack + more));
            prop_assert!(large >= small * (1.0 - 1e-12));
            prop_assert!(path.last().unwrap().l2 <= small * (1.0 + 1e-12) && large <= 1.0);
        }
    }
}
