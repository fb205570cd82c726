//! Least moves to a hyperplane within the box: in reach, out of reach, and by hand.

use crate::autoattack::box_projection::{Hyperplane, nearest_on_hyperplane};
use crate::tests::pixel;
use crate::threat::Norm;
use proptest::prelude::*;

const NORMS: [Norm; 4] = [Norm::Linf, Norm::L2, Norm::L1, Norm::L0];

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

proptest! {
    /// The move reaches the hyperplane inside the box, and no random feasible move that does is shorter.
    #[test]
    fn the_move_reaches_the_hyperplane_and_none_is_shorter(
        v in proptest::collection::vec(pixel(), 5),
        w in proptest::collection::vec(-2.0f64..2.0, 5),
        other in proptest::collection::vec(pixel().prop_map(f64::from), 5),
        norm in proptest::sample::select(NORMS.to_vec()),
    ) {
        // A hyperplane through a point of the box can be reached.
        let wide: Vec<f64> = v.iter().map(|&v| f64::from(v)).collect();
        let theirs: Vec<f64> = other.iter().zip(&wide).map(|(o, v)| o - v).collect();
        let hyperplane = Hyperplane { normal: &w, gap: -dot(&w, &theirs), bounds: (0.0, 1.0), floor: 0.0 };
        let d = nearest_on_hyperplane(norm, &v, &hyperplane);
        prop_assert!((dot(&w, &d) + hyperplane.gap).abs() < 1e-9, "{} {}", dot(&w, &d), hyperplane.gap);
        for (d, v) in d.iter().zip(&wide) {
            prop_assert!((-1e-12..=1.0 + 1e-12).contains(&(v + d)));
        }
        let length = |d: &[f64]| norm.length(d.iter().copied());
        prop_assert!(length(&d) <= length(&theirs) + 1e-9, "{d:?} {theirs:?}");
    }

    /// A hyperplane out of reach: every coordinate with a slope goes to its corner.
    #[test]
    fn a_hyperplane_out_of_reach_is_met_at_the_corner(v in proptest::collection::vec(pixel(), 4), norm in proptest::sample::select(NORMS.to_vec())) {
        let hyperplane = Hyperplane { normal: &[1.0, -2.0, 0.0, 0.5], gap: 100.0, bounds: (0.0, 1.0), floor: 0.0 };
        let d = nearest_on_hyperplane(norm, &v, &hyperplane);
        let there: Vec<f64> = v.iter().zip(&d).map(|(&v, d)| f64::from(v) + d).collect();
        prop_assert_eq!(there, vec![0.0, 1.0, f64::from(v[2]), 0.0]);
    }
}

/// By hand: v = (0.5, 0.5), w = (1, 2), gap 0.9. The second coordinate has room 0.5.
#[test]
fn moves_in_two_dimensions_are_those_worked_out_by_hand() {
    let hyperplane = Hyperplane { normal: &[1.0, 2.0], gap: 0.9, bounds: (0.0, 1.0), floor: 0.0 };
    let near = |norm, expected: [f64; 2]| {
        let d = nearest_on_hyperplane(norm, &[0.5, 0.5], &hyperplane);
        assert!(d.iter().zip(expected).all(|(d, e)| (d - e).abs() < 1e-12), "{norm} {d:?}");
    };
    near(Norm::Linf, [-0.3, -0.3]);
    near(Norm::L2, [-0.18, -0.36]);
    near(Norm::L1, [0.0, -0.45]);
    near(Norm::L0, [0.0, -0.45]);
}
