//! The linear form of a sample: a set that holds its displacement, and knows every direction.

use crate::ellipsoid::{Ellipsoid, reach};
use crate::interval::worst;
use crate::rounding::{TINY, UNIT, above, slack, up};
use tarrl_bound::linalg::spectral_norm;
use tarrl_tensor::Device;

/// A set `{ b + Σ_k g_k e_k + t + diag(s) e′ + ε A u : |e_k|, |e′_i| ≤ 1, t ∈ E, ‖u‖₂ ≤ 1 }` that holds every
/// displacement `f(x′) − f(x)` of one sample (Theorems I4 and I5, docs/certificates.md). `E` is an ellipsoid.
///
/// Unlike a radius it bounds a displacement in the direction in which a head looks, and it is stored
/// before that head exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Zonotope {
    /// `b (d)`
    pub(crate) offset: Vec<f64>,
    /// `s (d)`: a box for roundings.
    pub(crate) spread: Vec<f64>,
    /// `g (m, d)` row-major: one row for each generator.
    pub(crate) generators: Vec<f32>,
    /// What the generators that are not kept one by one can add up to.
    pub(crate) rest: Ellipsoid,
    /// `ε Aᵀ (n, d)` row-major; empty unless the ball is Euclidean.
    pub(crate) ball: Vec<f32>,
    /// `(d)`: what no coordinate of the set exceeds.
    pub(crate) reach: Vec<f64>,
}

/// The parts of a form before it is made small.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) offset: Vec<f64>,
    pub(crate) spread: Vec<f64>,
    /// Generators, `d` numbers each.
    pub(crate) generators: Vec<Vec<f64>>,
    /// Rows of `ε Aᵀ`, `d` numbers each.
    pub(crate) ball: Vec<Vec<f64>>,
}

impl Zonotope {
    /// Keeps the `most` longest generators in f32; an ellipsoid takes the others, a box all roundings.
    pub(crate) fn new(mut parts: Parts, most: usize, device: &Device) -> Self {
        let d = parts.offset.len();
        let length = |g: &[f64]| g.iter().map(|v| v * v).sum::<f64>();
        let lengths: Vec<f64> = parts.generators.iter().map(|g| length(g)).collect();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        // The longest first; equal ones, and what is no number, in their own order.
        order.sort_by(|&a, &b| lengths[b].total_cmp(&lengths[a]).then(a.cmp(&b)));
        let (kept, others) = order.split_at(most.min(order.len()));
        let mut generators = Vec::new();
        kept.iter().for_each(|&k| round(&parts.generators[k], &mut generators, &mut parts.spread));
        let others: Vec<f64> = others.iter().flat_map(|&k| parts.generators[k].iter().copied()).collect();
        let rest = Ellipsoid::around(&others, d, device);
        let mut ball = Vec::new();
        let mut lost = vec![0.0; d];
        for row in &parts.ball {
            let mut error = vec![0.0; d];
            round(row, &mut ball, &mut error);
            lost.iter_mut().zip(error).for_each(|(l, e)| *l += e * e);
        }
        let (terms, rows) = (order.len() + 4, parts.ball.len());
        let spread = parts.spread.iter().zip(lost);
        let spread = spread.map(|(s, l)| above(*s, terms) + above(above(l, rows).sqrt(), 2)).collect();
        Zonotope::from_stored(parts.offset, spread, generators, rest, ball)
    }

    /// The form of stored parts.
    pub(crate) fn from_stored(
        offset: Vec<f64>,
        spread: Vec<f64>,
        generators: Vec<f32>,
        rest: Ellipsoid,
        ball: Vec<f32>,
    ) -> Self {
        let d = offset.len();
        let mut reach: Vec<f64> = offset.iter().zip(&spread).map(|(b, s)| b.abs() + s).collect();
        for (i, r) in reach.iter_mut().enumerate() {
            let unit: Vec<f64> = (0..d).map(|j| if i == j { 1.0 } else { 0.0 }).collect();
            *r += rest.support(&unit);
        }
        for g in generators.chunks(d) {
            reach.iter_mut().zip(g).for_each(|(r, g)| *r += f64::from(g.abs()));
        }
        let mut square = vec![0.0; d];
        for row in ball.chunks(d) {
            square.iter_mut().zip(row).for_each(|(s, a)| *s += f64::from(*a) * f64::from(*a));
        }
        let terms = generators.len() / d.max(1) + 4;
        let reach =
            reach.iter().zip(square).map(|(r, s)| above(*r + above(s, terms).sqrt(), terms)).collect();
        Zonotope { offset, spread, generators, rest, ball, reach }
    }

    /// Generators and rows of the ball.
    pub(crate) fn sizes(&self) -> [usize; 2] {
        [self.generators(), self.ball.len() / self.offset.len()]
    }

    /// The number of generators that are kept one by one.
    pub fn generators(&self) -> usize {
        self.generators.len() / self.offset.len()
    }

    /// An upper bound of `v · Δ` over the set, for `v (d)`.
    ///
    /// # Panics
    /// If `v` has not `d` elements.
    #[track_caller]
    pub fn support(&self, v: &[f64]) -> f64 {
        let d = self.offset.len();
        assert_eq!(v.len(), d, "Zonotope: a direction of {} on {d} features", v.len());
        let dot = |g: &[f32]| g.iter().zip(v).map(|(g, v)| f64::from(*g) * v).sum::<f64>();
        let (mut sum, mut size) = (0.0, 0.0);
        for (i, v) in v.iter().enumerate() {
            sum += v * self.offset[i] + v.abs() * self.spread[i];
            size += v.abs() * self.reach[i];
        }
        sum += self.rest.support(v);
        sum += self.generators.chunks(d).map(|g| dot(g).abs()).sum::<f64>();
        if !self.ball.is_empty() {
            sum += self.ball.chunks(d).map(|row| dot(row).powi(2)).sum::<f64>().sqrt();
        }
        let terms = 2 * d + self.generators() + self.ball.len() / d + 8;
        up(sum + above(2.0 * slack(terms) * size, terms))
    }
}

impl Parts {
    /// An upper bound of `‖Δ‖₂` over the set: Theorem I6 (docs/certificates.md).
    pub(crate) fn radius(&self, device: &Device) -> f64 {
        let d = self.offset.len();
        let mut columns: Vec<f64> = self.generators.iter().flatten().copied().collect();
        columns.extend(&self.offset);
        let spread = self.spread.iter().map(|s| s * s).sum::<f64>();
        let ball: Vec<f64> = self.ball.iter().flatten().copied().collect();
        let ball = if ball.is_empty() { 0.0 } else { (1.0 + 1e-9) * spectral_norm(&ball, ball.len() / d, d) };
        up(above(reach(&columns, d, device) * (1.0 + slack(4)) + above(spread, d).sqrt() + ball, 4))
    }
}

/// Appends `g` in f32 and adds what was lost to `error`.
fn round(g: &[f64], to: &mut Vec<f32>, error: &mut [f64]) {
    for (error, &g) in error.iter_mut().zip(g) {
        let near = g as f32;
        to.push(near);
        *error += (g - f64::from(near)).abs() + g.abs() * 2.0 * UNIT + TINY;
    }
}

/// An upper bound of `v · D` over `{ D : lower ≤ D ≤ upper, ‖D‖₂ ≤ radius }`, by weak duality: Theorem I8
/// (docs/certificates.md). Any multiplier is sound, and the best one is looked for by bisection.
pub(crate) fn box_and_ball(v: &[f64], lower: &[f64], upper: &[f64], radius: f64) -> f64 {
    let bounded = |lambda: f64| {
        let mut square = 0.0;
        let mut sum = 0.0;
        let mut size = 0.0;
        for i in 0..v.len() {
            let at = v[i] / lambda;
            let d = if at < lower[i] {
                lower[i]
            } else if at > upper[i] {
                upper[i]
            } else {
                at
            };
            square += d * d;
            // The maximum of a concave parabola is its value at the clipped vertex.
            sum += v[i] * d - 0.5 * lambda * d * d;
            size += (v[i] * d).abs() + 0.5 * lambda * d * d;
        }
        let value = sum + 0.5 * lambda * radius * radius;
        (square, value + slack(v.len() + 8) * (size + 0.5 * lambda * radius * radius))
    };
    let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
    let free: f64 = v.iter().enumerate().map(|(i, v)| worst(v * lower[i], v * upper[i])).sum();
    let mut best = above(free, v.len());
    if !(radius > 0.0 && norm > 0.0 && radius.is_finite()) {
        return best;
    }
    // At the largest multiplier the vertex is inside the ball, below it leaves it.
    let (mut low, mut high) = (0.0, norm / radius);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let (square, value) = bounded(middle);
        best = if value < best || value.is_nan() { value } else { best };
        if square > radius * radius { low = middle } else { high = middle }
    }
    let (_, value) = bounded(high);
    if value < best { value } else { best }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tarrl_tensor::Key;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn no_point_of_box_and_ball_is_farther_along_a_direction(seed in 0u64..1_000_000, d in 1usize..=8) {
            let mut stream = Key::new(seed).stream();
            let mut draw = |low: f64, high: f64| -> Vec<f64> { (0..d).map(|_| stream.uniform(low, high)).collect() };
            let (v, lower, upper) = (draw(-2.0, 2.0), draw(-1.0, 0.0), draw(0.0, 1.0));
            let radius = draw(0.1, 1.5)[0];
            let bound = box_and_ball(&v, &lower, &upper, radius);
            let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
            let corner: f64 = (0..d).map(|i| (v[i] * lower[i]).max(v[i] * upper[i])).sum();
            // Neither alone is better, but for the rounding that is covered.
            prop_assert!(bound <= corner.min(radius * length(&v)) * (1.0 + 1e-9) + 1e-12);
            for _ in 0..8 {
                // From a random point along the direction, into the box, and back into the ball.
                let start = draw(-1.0, 1.0);
                let far = draw(0.0, 4.0)[0];
                let inside: Vec<f64> = (0..d).map(|i| (start[i] + far * v[i]).clamp(lower[i], upper[i])).collect();
                let share = (radius / length(&inside).max(1e-300)).min(1.0) * (1.0 - 1e-15);
                let along: f64 = inside.iter().zip(&v).map(|(p, v)| p * share * v).sum();
                prop_assert!(along <= bound, "{along} {bound}");
            }
        }
    }

    /// (½, √(0.36 − ¼)) is a corner of the set, farthest along (3, 1).
    #[test]
    fn box_and_ball_cannot_be_smaller_by_a_twentieth() {
        let bound = box_and_ball(&[3.0, 1.0], &[-0.5; 2], &[0.5; 2], 0.6);
        let moved = 1.5 + 0.11f64.sqrt();
        assert!(moved <= bound && moved > 0.95 * bound, "{moved} {bound}");
    }
}
