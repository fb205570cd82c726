//! Zonotopes: a set that encloses the displacement of a sample, with a support function in every direction. Theorems I4
//! to I6 of docs/certificates.md.

use crate::ellipsoid::{Ellipsoid, zonotope_radius};
use crate::rounding::{TINY, UNIT, above, slack, up};
use crate::vector::at_scale;
use tarrl_bound::linalg::spectral_norm;
use tarrl_tensor::Device;

/// A set `{ b + Σ_k g_k e_k + t + diag(s) e′ + ε A u : |e_k|, |e′_i| ≤ 1, t ∈ E, ‖u‖₂ ≤ 1 }` that holds every
/// displacement `f(x′) − f(x)` of one sample (Theorems I4 and I5, docs/certificates.md). `E` is an ellipsoid.
///
/// Unlike a radius it bounds the displacement in the direction of each logit gap of a head, and it is stored before that
/// head exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Zonotope {
    /// `b (d)`
    pub(crate) offset: Vec<f64>,
    /// `s (d)`: a box for roundings.
    pub(crate) spread: Vec<f64>,
    /// `g (m, d)` row-major: one row for each generator.
    pub(crate) generators: Vec<f32>,
    /// Encloses the sum of the generators that are not kept one by one.
    pub(crate) rest: Ellipsoid,
    /// `ε Aᵀ (n, d)` row-major; empty unless the ball is Euclidean.
    pub(crate) ball: Vec<f32>,
    /// `(d)`: upper bounds of the absolute value of each coordinate.
    pub(crate) reach: Vec<f64>,
}

/// The parts of a zonotope before its generators are reduced.
#[derive(Clone)]
pub(crate) struct ZonotopeParts {
    pub(crate) offset: Vec<f64>,
    pub(crate) spread: Vec<f64>,
    /// Generators, `d` numbers each.
    pub(crate) generators: Vec<Vec<f64>>,
    /// Rows of `ε Aᵀ`, `d` numbers each.
    pub(crate) ball: Vec<Vec<f64>>,
}

impl Zonotope {
    /// Keeps the `most` longest generators in f32; an ellipsoid takes the others, a box all roundings.
    pub(crate) fn new(mut parts: ZonotopeParts, most: usize, device: &Device) -> Self {
        let d = parts.offset.len();
        let square_norm = |g: &Vec<f64>| g.iter().map(|v| v * v).sum::<f64>();
        let lengths: Vec<f64> = parts.generators.iter().map(square_norm).collect();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        // The longest first; ties and NaN in their original order.
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

    /// The zonotope of stored parts.
    pub(crate) fn from_stored(
        offset: Vec<f64>,
        spread: Vec<f64>,
        generators: Vec<f32>,
        rest: Ellipsoid,
        ball: Vec<f32>,
    ) -> Self {
        let d = offset.len();
        let mut reach: Vec<f64> = offset.iter().zip(&spread).map(|(b, s)| b.abs() + s).collect();
        reach.iter_mut().zip(rest.reach(d)).for_each(|(r, rest)| *r += rest);
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

    /// The numbers of generators and of rows of the ball.
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
        at_scale(v, |v| self.scaled_support(v))
    }

    fn scaled_support(&self, v: &[f64]) -> f64 {
        let d = self.offset.len();
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

impl ZonotopeParts {
    /// An upper bound of `‖Δ‖₂` over the set: Theorem I6 (docs/certificates.md).
    pub(crate) fn radius(&self, device: &Device) -> f64 {
        let d = self.offset.len();
        // A zero adds nothing, and would only take a share of the weights.
        let moving = self.generators.iter().chain([&self.offset]).filter(|g| g.iter().any(|&v| v != 0.0));
        let mut columns = Vec::with_capacity((self.generators.len() + 1) * d);
        moving.for_each(|g| columns.extend(g));
        let spread = self.spread.iter().map(|s| s * s).sum::<f64>();
        let ball: Vec<f64> = self.ball.iter().flatten().copied().collect();
        let ball = if ball.is_empty() { 0.0 } else { (1.0 + 1e-9) * spectral_norm(&ball, ball.len() / d, d) };
        up(above(zonotope_radius(&columns, d, device) * (1.0 + slack(4)) + above(spread, d).sqrt() + ball, 4))
    }
}

/// Appends `g` rounded to f32 and adds the rounding errors to `error`.
fn round(g: &[f64], to: &mut Vec<f32>, error: &mut [f64]) {
    for (error, &g) in error.iter_mut().zip(g) {
        let near = g as f32;
        to.push(near);
        *error += (g - f64::from(near)).abs() + g.abs() * 2.0 * UNIT + TINY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::cpu;

    fn zonotope(offset: &[f64], generators: Vec<Vec<f64>>, ball: Vec<Vec<f64>>) -> Zonotope {
        let parts =
            ZonotopeParts { offset: offset.to_vec(), spread: vec![0.0; offset.len()], generators, ball };
        Zonotope::new(parts, 8, &cpu())
    }

    /// 1 + 2⁻³⁰ is 1 in f32: what a stored generator or a row of the ball lost is in the spread.
    #[test]
    fn generators_that_f32_rounds_are_covered() {
        let g = 1.0 + (-30f64).exp2();
        assert!(zonotope(&[0.0], vec![vec![g]], vec![]).support(&[1.0]) >= g);
        assert!(zonotope(&[0.0], vec![], vec![vec![g]]).support(&[-1.0]) >= g);
        assert!(zonotope(&[0.0], vec![vec![g]], vec![]).support(&[1.0]) < g + 1e-9);
    }

    /// 1 + 2⁻⁵⁴ is 1 in f64, and less than the support.
    #[test]
    fn the_rounding_of_the_sum_is_covered() {
        for v in [[1.0, 1.0], [-1.0, -1.0]] {
            let offset = [v[0], v[1] * (-54f64).exp2()];
            let found = zonotope(&offset, vec![], vec![]).support(&v);
            assert!(found > 1.0 && found < 1.0 + 1e-12, "{found:e}");
        }
    }
}
