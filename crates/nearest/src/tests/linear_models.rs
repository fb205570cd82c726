//! Linear models in a box, whose nearest mistakes have a closed form.

use super::{point, run};
use crate::Nearest;
use proptest::prelude::*;
use tarrl_attacks::Norm;
use tarrl_tensor::{Tensor, cpu};

/// The least size of a displacement of `x` in [0, 1]^d that raises ⟨w, ·⟩ by `gap`; infinite if none does.
///
/// With the room rᵢ of a coordinate in the direction of wᵢ: l-infinity the t with Σ |wᵢ| min(t, rᵢ) = gap; l2
/// δᵢ = min(λ |wᵢ|, rᵢ) with Σ |wᵢ| δᵢ = gap; l1 rooms filled by falling |wᵢ|, l0 by falling |wᵢ| rᵢ.
pub(super) fn exact(norm: Norm, x: &[f32], w: &[f64], gap: f64) -> f64 {
    let room = |i: usize| if w[i] > 0.0 { 1.0 - f64::from(x[i]) } else { f64::from(x[i]) };
    let mut sizes: Vec<(f64, f64)> = (0..x.len()).map(|i| (w[i].abs(), room(i))).collect();
    if sizes.iter().map(|(w, r)| w * r).sum::<f64>() < gap {
        return f64::INFINITY;
    }
    let level = |size: &dyn Fn(f64, f64, f64) -> f64, most: f64| {
        let (mut low, mut high) = (0.0, most);
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            let reached: f64 = sizes.iter().map(|&(w, r)| w * size(middle, w, r)).sum();
            if reached >= gap { high = middle } else { low = middle }
        }
        high
    };
    match norm {
        Norm::Linf => level(&|t, _, r| r.min(t), 1.0),
        Norm::L2 => {
            let lambda = level(&|t, w, r| r.min(t * w), 1e9);
            sizes.iter().map(|&(w, r)| r.min(lambda * w).powi(2)).sum::<f64>().sqrt()
        }
        Norm::L1 => {
            sizes.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (mut left, mut length) = (gap, 0.0);
            for (w, r) in sizes {
                let step = if w > 0.0 { r.min(left.max(0.0) / w) } else { 0.0 };
                (left, length) = (left - w * step, length + step);
            }
            length
        }
        Norm::L0 => {
            sizes.sort_by(|a, b| (b.0 * b.1).total_cmp(&(a.0 * a.1)));
            let mut left = gap;
            1.0 + sizes
                .iter()
                .take_while(|(w, r)| {
                    left -= w * r;
                    left > 0.0
                })
                .count() as f64
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Three classes of six coordinates: the nearest of the other two, unless a threshold of l0 is met by a hair.
    #[test]
    fn the_ensemble_is_exact(
        levels in proptest::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 6),
        weights in proptest::collection::vec(-2.0f64..2.0, 12),
        gaps in proptest::collection::vec(0.05f64..1.5, 2),
    ) {
        let x: Vec<f32> = levels.iter().map(|&level| f32::from(level) / 255.0).collect();
        let w = Tensor::new(&cpu(), [6, 2], &weights.iter().map(|&w| w as f32).collect::<Vec<_>>());
        // The scores of the other classes at x are −gap.
        let of_class = |k: usize| (0..6).map(|i| f64::from(weights[2 * i + k] as f32)).collect::<Vec<f64>>();
        let bias: Vec<f64> = (0..2)
            .map(|k| -gaps[k] - of_class(k).iter().zip(&x).map(|(w, &x)| w * f64::from(x)).sum::<f64>())
            .collect();
        let bias = Tensor::new(&cpu(), [1, 2], &bias.iter().map(|&b| b as f32).collect::<Vec<_>>());
        let scores = |u: &Tensor| {
            let z = &u.matmul(&w) + &bias.broadcast_to([u.shape()[0], 2]);
            Tensor::concat(&[&u.slice(1, 0, 1).zeros_like(), &z], 1)
        };
        for norm in Norm::ALL {
            let of = |slack: f64| {
                (0..2).map(|k| exact(norm, &x, &of_class(k), gaps[k] * slack)).fold(f64::INFINITY, f64::min)
            };
            let found = run(&Nearest::ensemble(norm), norm, &scores, &point(&x), &[0], Some(2000)).distance[0];
            // Scores are sums in f32: gaps are known to some 1e-6.
            let (least, most) = (of(1.0 - 1e-4), of(1.0 + 1e-4));
            let good = if norm == Norm::L0 || most.is_infinite() {
                (least..=most).contains(&found)
            } else {
                (least * (1.0 - 1e-4)..=most * (1.0 + 1e-3)).contains(&found)
            };
            prop_assert!(good, "{norm}: {found}, exact is {least} to {most}");
        }
    }
}
