//! Projection of one displacement onto an l2, l1 or l0 ball cut with the box, on the host in f64.

use crate::threat::threat_model::Norm;

/// The box around one center: how far each coordinate can go down and up.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a> {
    pub(crate) x: &'a [f64],
    pub(crate) lo: f64,
    pub(crate) hi: f64,
}

impl Room<'_> {
    /// How far coordinate `i` can move in the direction of `towards`.
    pub(crate) fn of(&self, i: usize, towards: f64) -> f64 {
        if towards > 0.0 { self.hi - self.x[i] } else { self.x[i] - self.lo }
    }
}

/// Whether the displacement is at most `radius` long in exact arithmetic: `true` only if it is, and
/// `false` within `2 (d + 8)` roundings of the radius too.
///
/// A sum of `d` terms, each rounded and taken of a rounded difference, is wrong by at most `d + 3`
/// roundings; twice that and ten are allowed for.
pub(crate) fn surely_inside(norm: Norm, displacement: &[f64], radius: f64) -> bool {
    let slack = 1.0 + 2.0 * (displacement.len() + 8) as f64 * f64::EPSILON;
    match norm {
        Norm::Linf | Norm::L0 => norm.length(displacement.iter().copied()) <= radius,
        Norm::L2 => displacement.iter().map(|v| v * v).sum::<f64>() * slack <= radius * radius,
        Norm::L1 => displacement.iter().map(|v| v.abs()).sum::<f64>() * slack <= radius,
    }
}

/// Brings the displacement `v` into the ball of `norm` and the box; `order` is scratch.
///
/// - l2: scaled to the radius, then cut with the box; cutting shortens it.
/// - l1: the nearest point of ball ∩ box (Croce & Hein 2021, Proposition 2.1):
///   `δ_i = sign(v_i) clip(|v_i| − λ, 0, room_i)` with the `λ ≥ 0` that makes it `radius` long.
/// - l0: the nearest point of ball ∩ box: each coordinate cut to its room, those kept that
///   gain most by moving, the first of equals.
///
/// # Panics
/// For l-infinity, whose projection is a clamp.
pub(crate) fn project_row(norm: Norm, v: &mut [f64], room: Room<'_>, radius: f64, order: &mut Vec<Break>) {
    if radius == 0.0 {
        return v.fill(0.0);
    }
    match norm {
        Norm::Linf => unreachable!("the projection on a cube is a clamp"),
        Norm::L2 => {
            if !surely_inside(norm, v, radius) {
                // By the largest element first, so that no square overflows.
                let largest = v.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                let length = largest * v.iter().map(|v| (v / largest).powi(2)).sum::<f64>().sqrt();
                v.iter_mut().for_each(|v| *v *= radius / length);
            }
            cut(v, room);
        }
        Norm::L1 => {
            let threshold = soft_threshold(v, room, radius, order);
            for (i, v) in v.iter_mut().enumerate() {
                *v = v.signum() * (v.abs() - threshold).clamp(0.0, room.of(i, *v));
            }
        }
        Norm::L0 => keep_largest(v, room, radius.floor() as usize, order),
    }
    shorten(norm, v, radius);
}

/// A coordinate, or a place where the slope of a piecewise linear function changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Break {
    at: f64,
    index: usize,
    slope: f64,
}

/// Takes away the excess that roundings have left, some 1e-16 of the length. What they have left nothing of, beside
/// components of 1e16 or radii near the least positive number, goes to the center, and so does NaN.
fn shorten(norm: Norm, v: &mut [f64], radius: f64) {
    let mut excess = 1e-15;
    while !surely_inside(norm, v, radius) {
        if excess >= 1.0 {
            return v.fill(0.0);
        }
        v.iter_mut().for_each(|v| *v *= 1.0 - excess);
        excess *= 4.0;
    }
}

fn cut(v: &mut [f64], room: Room<'_>) {
    for (i, v) in v.iter_mut().enumerate() {
        *v = v.signum() * v.abs().min(room.of(i, *v));
    }
}

/// The λ of the l1 projection: `Σ_i clip(|v_i| − λ, 0, room_i) = radius`, or 0 if the sum is less there.
///
/// The sum falls from λ = 0 piecewise linearly: coordinate `i` begins to shrink at `|v_i| − room_i` and
/// is gone at `|v_i|`.
fn soft_threshold(v: &[f64], room: Room<'_>, radius: f64, breaks: &mut Vec<Break>) -> f64 {
    breaks.clear();
    let (mut sum, mut slope, mut at) = (0.0, 0.0, 0.0);
    for (index, &value) in v.iter().enumerate() {
        let (size, room) = (value.abs(), room.of(index, value));
        sum += size.min(room);
        if size <= 0.0 || room <= 0.0 {
            continue;
        }
        if size > room {
            breaks.push(Break { at: size - room, index, slope: -1.0 });
        } else {
            slope -= 1.0;
        }
        breaks.push(Break { at: size, index, slope: 1.0 });
    }
    if sum <= radius {
        return 0.0;
    }
    breaks.sort_unstable_by(|a, b| a.at.total_cmp(&b.at).then(a.index.cmp(&b.index)));
    for b in breaks.iter() {
        let next = sum + slope * (b.at - at);
        if next <= radius {
            break;
        }
        (sum, at, slope) = (next, b.at, slope + b.slope);
    }
    // The slope is not zero: the sum still has to fall.
    at + (sum - radius) / -slope
}

fn keep_largest(v: &mut [f64], room: Room<'_>, count: usize, order: &mut Vec<Break>) {
    order.clear();
    for (index, value) in v.iter_mut().enumerate() {
        let wanted = *value;
        *value = wanted.signum() * wanted.abs().min(room.of(index, wanted));
        // v² − (v − δ)²: how much nearer the displacement gets by moving this coordinate.
        let gain = *value * (2.0 * wanted - *value);
        if *value != 0.0 {
            order.push(Break { at: gain, index, slope: 0.0 });
        } else {
            *value = 0.0;
        }
    }
    if order.len() > count {
        order.sort_unstable_by(|a, b| b.at.total_cmp(&a.at).then(a.index.cmp(&b.index)));
        order[count..].iter().for_each(|b| v[b.index] = 0.0);
    }
}
