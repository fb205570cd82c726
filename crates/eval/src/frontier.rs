//! Robustness at equal clean accuracy: reading the frontier of clean against robust accuracy.
//!
//! Heads of one encoder trade clean for robust accuracy as their regularization changes. With heads `1 … k` from strong to
//! weak, clean accuracies `a_i` and robust accuracies `r_i`, the frontier is the line through the points `(a_i, r_i)`, and
//!
//! ```text
//! robust accuracy at the clean accuracy c  =  max { r : (a, r) on the line, a ≥ c }
//! ```
//!
//! which is defined if any head reaches `c`, and never rises with `c`. A point between two heads is what a coin that picks
//! one of them for each image attains, against an adversary who sees the coin.

use tarrl_tensor::math;

/// The robust accuracy at the clean accuracy `clean` on the line through `points`, each a pair of clean and robust
/// accuracy, ordered by regularization; `None` if no point reaches it.
pub fn robust_at_clean(points: &[(f64, f64)], clean: f64) -> Option<f64> {
    let reached = points.iter().filter(|p| p.0 >= clean).map(|p| p.1);
    let crossings = points.windows(2).filter_map(|pair| {
        let ((a, r), (b, s)) = (pair[0], pair[1]);
        let crosses = (a < clean) != (b < clean);
        crosses.then(|| r + (s - r) * (clean - a) / (b - a))
    });
    reached.chain(crossings).reduce(f64::max)
}

/// The largest weight of the squared norm at which the clean accuracy reaches `clean`. `path` holds weights, falling, with
/// their clean accuracies; between two of them the accuracy is taken to be linear in the logarithm of the weight. `None`
/// if no head reaches it.
///
/// # Panics
/// If a weight is not positive.
#[track_caller]
pub fn matched_l2(path: &[(f64, f64)], clean: f64) -> Option<f64> {
    assert!(path.iter().all(|p| p.0 > 0.0), "matched_l2: weights have to be positive, not {path:?}");
    let first = path.iter().position(|p| p.1 >= clean)?;
    if first == 0 {
        return Some(path[0].0);
    }
    let ((stronger, below), (weaker, above)) = (path[first - 1], path[first]);
    let share = (clean - below) / (above - below);
    Some(math::exp(math::ln(stronger) + share * math::ln(weaker / stronger)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_frontier_is_read_between_two_heads() {
        let points = [(0.7, 0.6), (0.8, 0.4), (0.78, 0.1)];
        // A quarter of the way from the first head to the second.
        assert!((robust_at_clean(&points, 0.725).unwrap() - 0.55).abs() < 1e-12);
        assert_eq!(robust_at_clean(&points, 0.6), Some(0.6));
        assert_eq!(robust_at_clean(&points, 0.8), Some(0.4));
        assert_eq!(robust_at_clean(&points, 0.81), None);
        assert_eq!(robust_at_clean(&[], 0.5), None);
    }

    #[test]
    fn a_head_that_is_ahead_in_both_is_what_counts() {
        // The line crosses 0.75 at 0.35, but the last head has more of both.
        let points = [(0.7, 0.3), (0.8, 0.4), (0.9, 0.5)];
        assert_eq!(robust_at_clean(&points, 0.75), Some(0.5));
    }

    #[test]
    fn the_matched_weight_is_the_strongest_that_reaches_the_clean_accuracy() {
        let path = [(1e-1, 0.7), (1e-2, 0.8), (1e-3, 0.75), (1e-4, 0.9)];
        let found = matched_l2(&path, 0.75).unwrap();
        assert!((found / 10f64.powf(-1.5) - 1.0).abs() < 1e-12, "{found}");
        assert_eq!(matched_l2(&path, 0.6), Some(1e-1));
        assert_eq!(matched_l2(&path, 0.95), None);
    }

    proptest! {
        #[test]
        fn the_robust_accuracy_never_rises_with_the_clean_accuracy_that_is_asked_for(
            points in proptest::collection::vec((0.0f64..1.0, 0.0f64..1.0), 1..9), low in 0.0f64..1.0, more in 0.0f64..0.5,
        ) {
            let (at, beyond) = (robust_at_clean(&points, low), robust_at_clean(&points, low + more));
            if let Some(beyond) = beyond {
                prop_assert!(at.unwrap() >= beyond - 1e-12, "{:?} {}", at, beyond);
            }
        }

        /// A head more, on the line or anywhere at the end, lowers nothing.
        #[test]
        fn more_heads_lower_nothing(
            points in proptest::collection::vec((0.0f64..1.0, 0.0f64..1.0), 1..9), clean in 0.0f64..1.0,
            more in (0.0f64..1.0, 0.0f64..1.0),
        ) {
            let longer = [points.clone(), vec![more]].concat();
            if let Some(before) = robust_at_clean(&points, clean) {
                prop_assert!(robust_at_clean(&longer, clean).unwrap() >= before);
            }
        }
    }
}
