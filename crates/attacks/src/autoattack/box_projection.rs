//! Projection onto a hyperplane within the box: the shortest move of a point (Croce & Hein 2020, "Minimally
//! distorted adversarial examples", section 3.1).

use crate::threat::Norm;

/// A hyperplane: `⟨w, ·⟩ + gap = 0` at the point that is moved, all coordinates within a box.
pub struct Hyperplane<'a> {
    /// The normal `w`.
    pub normal: &'a [f64],
    /// `⟨w, v⟩ − b` at the point `v`.
    pub gap: f64,
    /// The box.
    pub bounds: (f64, f64),
    /// Normals of at most this size count as zero.
    pub floor: f64,
}

/// The move `d` of least norm with `⟨w, v + d⟩ = b` and `v + d` in the box; to the corner that is nearest
/// to the hyperplane if it cannot be reached.
///
/// With the room `r_i` of coordinate `i` against the sign of `w_i` and λ such that `Σ |w_i| |d_i|` is the gap:
/// `|d_i| = min(λ, r_i)` for l-infinity and `min(λ |w_i|, r_i)` for l2; for l1 the coordinates of
/// largest `|w_i|` go to the box one after the other, the last one as far as needed; for l0 those of largest
/// `|w_i| r_i`.
pub fn nearest_on_hyperplane(norm: Norm, v: &[f32], hyperplane: &Hyperplane<'_>) -> Vec<f64> {
    let down = if hyperplane.gap >= 0.0 { 1.0 } else { -1.0 };
    let slope = |i: usize| {
        if hyperplane.normal[i].abs() <= hyperplane.floor { 0.0 } else { down * hyperplane.normal[i] }
    };
    let (lo, hi) = hyperplane.bounds;
    let room = |i: usize| if slope(i) > 0.0 { f64::from(v[i]) - lo } else { hi - f64::from(v[i]) };
    let active: Vec<(usize, f64, f64)> =
        (0..v.len()).filter(|&i| slope(i) != 0.0).map(|i| (i, slope(i).abs(), room(i).max(0.0))).collect();
    let sizes = match norm {
        Norm::Linf => level(&active, hyperplane.gap.abs(), |_| 1.0),
        Norm::L2 => level(&active, hyperplane.gap.abs(), |w| w),
        Norm::L1 => fill(&active, hyperplane.gap.abs(), |w, _| w),
        Norm::L0 => fill(&active, hyperplane.gap.abs(), |w, room| w * room),
    };
    let mut d = vec![0.0; v.len()];
    for (&(i, ..), size) in active.iter().zip(sizes) {
        d[i] = -slope(i).signum() * size;
    }
    d
}

/// `min(λ h(w_i), r_i)` with `Σ w_i min(λ h(w_i), r_i) = gap`: the coordinates stop at λ = r_i / h(w_i).
fn level(active: &[(usize, f64, f64)], gap: f64, h: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut stops: Vec<(f64, f64, f64)> =
        active.iter().map(|&(_, w, r)| (r / h(w), w * h(w), w * r)).collect();
    stops.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut rate: f64 = stops.iter().map(|s| s.1).sum();
    let mut done = 0.0;
    let mut lambda = f64::INFINITY;
    for (stop, own_rate, own_end) in stops {
        if done + rate * stop >= gap {
            lambda = if rate > 0.0 { (gap - done) / rate } else { stop };
            break;
        }
        rate -= own_rate;
        done += own_end;
    }
    active.iter().map(|&(_, w, r)| (lambda * h(w)).min(r)).collect()
}

/// The whole room of the coordinates of largest `gain(w_i, r_i)`, one after the other, until the gap is closed.
fn fill(active: &[(usize, f64, f64)], gap: f64, gain: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..active.len()).collect();
    let gains: Vec<f64> = active.iter().map(|&(_, w, room)| gain(w, room)).collect();
    order.sort_by(|&a, &b| gains[b].total_cmp(&gains[a]));
    let mut sizes = vec![0.0; active.len()];
    let mut left = gap;
    for at in order {
        let (_, w, r) = active[at];
        sizes[at] = r.min(left / w);
        left -= w * sizes[at];
        if left <= 0.0 {
            break;
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::pixel;
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
}
