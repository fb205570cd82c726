//! Support function of the intersection of a box and a ball, by weak duality: Theorem I8 of docs/certificates.md.

use crate::rounding::{above, slack};
use crate::vector::{l2_norm, max_or_nan};

/// An upper bound of `v · D` over `{ D : lower ≤ D ≤ upper, ‖D‖₂ ≤ radius }`, by weak duality: Theorem I8
/// (docs/certificates.md). Any multiplier is sound; the best one is found by bisection.
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
    let norm = l2_norm(v);
    let free: f64 = v.iter().enumerate().map(|(i, v)| max_or_nan(v * lower[i], v * upper[i])).sum();
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
            let corner: f64 = (0..d).map(|i| (v[i] * lower[i]).max(v[i] * upper[i])).sum();
            // Neither alone is better, but for the rounding that is covered.
            prop_assert!(bound <= corner.min(radius * l2_norm(&v)) * (1.0 + 1e-9) + 1e-12);
            for _ in 0..8 {
                // From a random point along the direction, into the box, and back into the ball.
                let start = draw(-1.0, 1.0);
                let far = draw(0.0, 4.0)[0];
                let inside: Vec<f64> = (0..d).map(|i| (start[i] + far * v[i]).clamp(lower[i], upper[i])).collect();
                let share = (radius / l2_norm(&inside).max(1e-300)).min(1.0) * (1.0 - 1e-15);
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
