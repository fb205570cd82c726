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
        Norm::L1 => fill(&active, hyperplane.gap.abs(), 0.0, |w, _| w),
        // What rounding leaves of the gap is not worth another coordinate.
        Norm::L0 => fill(&active, hyperplane.gap.abs(), 1e-12, |w, room| w * room),
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

/// The whole room of the coordinates of largest `gain(w_i, r_i)`, one after the other, until no more than a
/// share of the gap is left.
fn fill(active: &[(usize, f64, f64)], gap: f64, share: f64, gain: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..active.len()).collect();
    let gains: Vec<f64> = active.iter().map(|&(_, w, room)| gain(w, room)).collect();
    order.sort_by(|&a, &b| gains[b].total_cmp(&gains[a]));
    let mut sizes = vec![0.0; active.len()];
    let mut left = gap;
    for at in order {
        let (_, w, r) = active[at];
        sizes[at] = r.min(left / w);
        left -= w * sizes[at];
        if left <= share * gap {
            break;
        }
    }
    sizes
}
