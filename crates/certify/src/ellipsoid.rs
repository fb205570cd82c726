//! Ellipsoids around zonotopes: the reduction of many short generators, and the radius of a zonotope. Theorems I5 and I6
//! of docs/certificates.md.

use crate::rounding::{above, slack, up};
use crate::vector::max_or_nan;
use tarrl_bound::linalg::symmetric_norm;
use tarrl_tensor::{Device, Tensor, Transpose};

/// `{ Δ : v·Δ ≤ √(W vᵀ M v) for all v }`, which holds every `Σ_k g_k e_k` with `|e_k| ≤ 1` (Theorem I5,
/// docs/certificates.md): by the inequality of Cauchy and Schwarz with weights `w_k`,
/// `Σ |v·g_k| ≤ √(Σ w_k) √(Σ (v·g_k)²/w_k)`.
///
/// For directions independent of the generators it is about a quarter larger than the zonotope, where
/// the box is larger by the root of the dimension; and it needs `d²` numbers, however many generators there were.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ellipsoid {
    /// `W`
    pub(crate) weight: f64,
    /// `M (d, d)` row-major, symmetric.
    pub(crate) matrix: Vec<f64>,
}

impl Ellipsoid {
    /// Around generators of `d` numbers each, `(m, d)` row-major, with `w_k = ‖g_k‖`.
    pub(crate) fn around(generators: &[f64], d: usize, device: &Device) -> Self {
        let lengths = generators.chunks(d).map(|g| g.iter().map(|v| v * v).sum::<f64>().sqrt());
        let weights: Vec<f64> = lengths.map(|w| w.max(f64::MIN_POSITIVE)).collect();
        let m = weights.len();
        if m == 0 {
            return Ellipsoid { weight: 0.0, matrix: vec![0.0; d * d] };
        }
        let g = Tensor::new(device, [m, d], generators);
        let w = Tensor::new(device, [m, 1], &weights);
        let mut matrix = moment(&g, &w).array().to_f64();
        // The rounding of a sum of m products, in any direction: at most γ times the trace.
        let trace: f64 = (0..d).map(|i| matrix[i * d + i]).sum();
        for i in 0..d {
            matrix[i * d + i] = above(matrix[i * d + i] + slack(m + 8) * trace, 2);
        }
        Ellipsoid { weight: above(weights.iter().sum(), m), matrix }
    }

    /// An upper bound of `v·Δ`.
    pub(crate) fn support(&self, v: &[f64]) -> f64 {
        let d = v.len();
        let square: f64 = v
            .iter()
            .zip(self.matrix.chunks(d))
            .map(|(vi, row)| vi * row.iter().zip(v).map(|(m, v)| m * v).sum::<f64>())
            .sum();
        self.bound(square, v.iter().map(|v| v * v).sum::<f64>() * self.trace(d), d)
    }

    /// `(d)`: upper bounds of the absolute value of each coordinate; the supports of the unit vectors.
    pub(crate) fn reach(&self, d: usize) -> Vec<f64> {
        let trace = self.trace(d);
        (0..d).map(|i| self.bound(self.matrix[i * d + i], trace, d)).collect()
    }

    /// `√(W (square + its rounding))` where `square = vᵀ M v` is a sum of terms of the absolute sum `size` at most.
    fn bound(&self, square: f64, size: f64, d: usize) -> f64 {
        let square = max_or_nan(square, 0.0) + slack(2 * d) * size;
        above(above(self.weight * square, 4).sqrt(), 2)
    }

    fn trace(&self, d: usize) -> f64 {
        (0..d).map(|i| self.matrix[i * d + i]).sum()
    }
}

/// An upper bound of `max ‖Σ_k g_k e_k‖₂` over `|e_k| ≤ 1` for generators `(m, d)` row-major, none of them zero: Theorem I6
/// (docs/certificates.md).
///
/// `√(Σ w_k · λ_max(Σ_k g_k g_kᵀ / w_k))` is a bound for all positive weights. The best weights, at which it is
/// at most `√(π/2)` times the exact radius, are approximated by a few steps of a fixed-point iteration.
pub(crate) fn zonotope_radius(generators: &[f64], d: usize, device: &Device) -> f64 {
    let m = generators.len() / d;
    if m == 0 {
        return 0.0;
    }
    let g = Tensor::new(device, [m, d], generators);
    // P, which is the identity at first.
    let mut metric = None;
    let mut best = f64::INFINITY;
    for _ in 0..STEPS {
        // w_k = √(g_kᵀ P g_k), kept away from zero: any positive weight is sound.
        let square = (&metric.as_ref().map_or_else(|| g.clone(), |metric| g.matmul(metric)) * &g).sum(1);
        let most = square.max(0).item();
        let tiny = Tensor::full(device, [], square.dtype(), (1e-24 * most).max(f64::MIN_POSITIVE));
        let w = square.maximum(&tiny).sqrt();
        let matrix = moment(&g, &w);
        let values = matrix.array().to_f64();
        let trace: f64 = (0..d).map(|i| values[i * d + i]).sum();
        let top = (1.0 + 1e-9) * symmetric_norm(values, d) + slack(m + 8) * trace;
        let bound = above(above(w.sum_all().item(), m) * top, 4).sqrt();
        // A NaN is no bound, and must not be passed over.
        if bound.is_nan() {
            return bound;
        }
        best = best.min(up(bound));
        let next = metric.map_or_else(|| matrix.clone(), |metric| matrix.matmul(&metric)).matmul(&matrix);
        let trace = next.array().to_f64().iter().step_by(d + 1).sum::<f64>();
        metric = Some((&next + &next.t()).mul_scalar(0.5 / trace));
    }
    best
}

/// Steps of the iteration in [`zonotope_radius`]: more change the third digit.
const STEPS: usize = 4;

/// `Σ_k g_k g_kᵀ / w_k` for `g (m, d)` and `w (m, 1)`.
fn moment(g: &Tensor, w: &Tensor) -> Tensor {
    let scaled = g / &w.sqrt();
    scaled.matmul_with(&scaled, Transpose { a: true, b: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::device;
    use proptest::prelude::*;
    use tarrl_tensor::Key;

    fn generators(seed: u64, m: usize, d: usize) -> Vec<f64> {
        let mut stream = Key::new(seed).stream();
        (0..m * d).map(|_| stream.normal() * 10f64.powf(stream.uniform(-1.0, 1.0))).collect()
    }

    /// The largest length of a corner, by looking at all of them.
    fn truth(g: &[f64], d: usize) -> f64 {
        let m = g.len() / d;
        let corner = |signs: usize| {
            let sum = |i: usize| -> f64 {
                (0..m).map(|k| if signs >> k & 1 == 1 { g[k * d + i] } else { -g[k * d + i] }).sum()
            };
            (0..d).map(|i| sum(i).powi(2)).sum::<f64>().sqrt()
        };
        (0..1 << m).map(corner).fold(0.0, f64::max)
    }

    /// `√(Σ_{kl} |g_k·g_l|)`: the elementary bound, which is the iteration's for other weights.
    fn elementary(g: &[f64], d: usize) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>().abs();
        g.chunks(d).flat_map(|a| g.chunks(d).map(move |b| dot(a, b))).sum::<f64>().sqrt()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn the_radius_is_above_every_corner_and_near_it(seed in 0u64..1_000_000, m in 1usize..=8, d in 1usize..=6) {
            let g = generators(seed, m, d);
            let (found, truth) = (zonotope_radius(&g, d, &device()), truth(&g, d));
            prop_assert!(found >= truth, "{found} {truth}");
            // √(π/2) = 1.2533 at the best weights; four steps find them up to some per cent.
            prop_assert!(found <= 1.35 * truth, "{found} {truth}");
            prop_assert!(found <= 1.02 * elementary(&g, d));
        }

        #[test]
        fn the_ellipsoid_holds_the_zonotope_in_every_direction(seed in 0u64..1_000_000, m in 1usize..=8, d in 1usize..=6) {
            let g = generators(seed, m, d);
            let ellipsoid = Ellipsoid::around(&g, d, &device());
            let v = generators(seed + 1_000_000, 1, d);
            let dot = |g: &[f64]| g.iter().zip(&v).map(|(g, v)| g * v).sum::<f64>().abs();
            let exact: f64 = g.chunks(d).map(dot).sum();
            prop_assert!(exact <= ellipsoid.support(&v));
        }
    }

    #[test]
    fn the_reach_is_the_support_of_the_unit_vectors() {
        let ellipsoid = Ellipsoid::around(&generators(5, 7, 4), 4, &device());
        for (i, reach) in ellipsoid.reach(4).into_iter().enumerate() {
            let unit: Vec<f64> = (0..4).map(|j| if i == j { 1.0 } else { 0.0 }).collect();
            assert_eq!(reach.to_bits(), ellipsoid.support(&unit).to_bits());
        }
    }

    /// One generator is its own ellipsoid, so that a twentieth less is wrong.
    #[test]
    fn nothing_can_be_smaller_by_a_twentieth() {
        let g = generators(3, 1, 4);
        let length = g.iter().map(|v| v * v).sum::<f64>();
        assert!(0.95 * Ellipsoid::around(&g, 4, &device()).support(&g) < length);
        assert!(0.95 * zonotope_radius(&g, 4, &device()) < length.sqrt());
    }

    #[test]
    fn a_nan_generator_gives_nan() {
        assert!(zonotope_radius(&[1.0, f64::NAN], 2, &device()).is_nan());
        assert!(Ellipsoid::around(&[1.0, f64::NAN], 2, &device()).support(&[1.0, 1.0]).is_nan());
    }
}
