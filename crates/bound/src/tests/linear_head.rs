//! Linear heads: Theorems A1 to A6 on random instances, in all three norms.

use super::thousand;
use crate::check::at_most;
use crate::{LinearHead, LpNorm};
use proptest::prelude::*;
use tarrl_tensor::Key;

/// A head, a clean and an attacked representation, and a label.
#[derive(Clone, Debug)]
struct Instance {
    head: LinearHead,
    z: Vec<f64>,
    moved: Vec<f64>,
    label: usize,
}

/// Heads of 2 to 8 classes on 1 to 10 features; weights over two decades, displacements over four.
fn instances() -> impl Strategy<Value = Instance> {
    (2usize..9, 1usize..11, -1.0f64..1.0, -3.0f64..1.0, any::<u64>()).prop_map(
        |(k, d, weight, shift, seed)| {
            let mut random = Key::new(seed).stream();
            let mut draw = |n: usize, decade: f64| -> Vec<f64> {
                (0..n).map(|_| 10f64.powf(decade) * random.normal()).collect()
            };
            let head = LinearHead::new(k, d, draw(k * d, weight), draw(k, weight));
            let z = draw(d, 0.0);
            let moved = draw(d, shift).iter().zip(&z).map(|(delta, z)| z + delta).collect();
            Instance { head, z, moved, label: (seed % k as u64) as usize }
        },
    )
}

proptest! {
    #![proptest_config(thousand())]

    #[test]
    fn a1_additive(Instance { head, z, moved, label } in instances()) {
        let (before, after) = (head.loss(&z, label), head.loss(&moved, label));
        let delta: Vec<f64> = moved.iter().zip(&z).map(|(a, b)| a - b).collect();
        let shifts = head.shifts(label, &delta);
        at_most("A1", after, head.additive_bound(&z, label, &shifts))?;
        // The loss falls by no more than the least shift.
        at_most("A1 from below", before + shifts.iter().copied().fold(0.0, f64::min), after)?;
        for norm in LpNorm::ALL {
            let radius = norm.distance(&moved, &z);
            at_most("A1 with the constant", after, before + head.label_constant(label, norm) * radius)?;
            let supports = head.supports(label, norm, radius);
            at_most("A1 by Hölder", head.additive_bound(&z, label, &shifts), head.additive_bound(&z, label, &supports))?;
        }
    }

    #[test]
    fn a2_gap_odds_additive(Instance { head, z, moved, label } in instances()) {
        let after = head.loss(&moved, label);
        for norm in LpNorm::ALL {
            let supports = head.supports(label, norm, norm.distance(&moved, &z));
            let (gap, odds) = (head.logit_gap_bound(&z, label, &supports), head.odds_bound(&z, label, &supports));
            at_most("A2: gap", after, gap)?;
            at_most("A2: odds", gap, odds)?;
            at_most("A2: additive", odds, head.additive_bound(&z, label, &supports))?;
            if head.classes() == 2 {
                prop_assert!((gap - odds).abs() <= 1e-12 * (1.0 + gap));
            }
        }
    }

    /// The odds bound is increasing and concave in the clean loss: means may be taken inside.
    #[test]
    fn a2_odds_is_concave_in_the_loss(m in -20.0f64..20.0, n in -20.0f64..20.0, s in 0.0f64..10.0) {
        let head = LinearHead::new(2, 1, vec![0.0, 1.0], vec![0.0; 2]);
        let odds_at_loss = |loss: f64| head.odds_bound(&[loss.exp_m1().ln()], 0, &[0.0, s]);
        let (a, b) = (head.loss(&[m], 0), head.loss(&[n], 0));
        // exp_m1 of a small loss and its logarithm lose some digits: slack 1e-9.
        let middle = odds_at_loss(0.5 * (a + b));
        prop_assert!(0.5 * (odds_at_loss(a) + odds_at_loss(b)) <= middle + 1e-9 * (1.0 + middle));
        prop_assert!((odds_at_loss(a) <= odds_at_loss(b) + 1e-9) || a > b);
    }

    #[test]
    fn a3_constants(Instance { head, label, .. } in instances()) {
        for norm in LpNorm::ALL {
            at_most("C_y", head.label_constant(label, norm), head.constant(norm))?;
            at_most("2 max ‖w‖", head.constant(norm), head.row_constant(norm))?;
        }
        let (constant, spectral) = (head.constant(LpNorm::L2), head.spectral_constant());
        at_most("√2 ‖W_c‖₂", constant, spectral)?;
        if head.classes() == 2 {
            prop_assert!((spectral / constant - 1.0).abs() < 1e-12, "{spectral} but {constant}");
        }
    }

    /// A vector added to all rows changes no softmax, and neither constant.
    #[test]
    fn a3_ignores_a_common_row(Instance { head, z, label, .. } in instances(), seed in any::<u64>()) {
        let mut random = Key::new(seed).stream();
        let common: Vec<f64> = (0..head.features()).map(|_| 3.0 * random.normal()).collect();
        let weight = head.weight().iter().enumerate().map(|(i, w)| w + common[i % head.features()]).collect();
        let moved = LinearHead::new(head.classes(), head.features(), weight, head.bias().to_vec());
        // The common row is of size 10; a difference of rows keeps its rounding, 1e-15 each.
        let same = |a: f64, b: f64| (a - b).abs() < 1e-11 * (1.0 + a.abs());
        for norm in LpNorm::ALL {
            prop_assert!(same(moved.constant(norm), head.constant(norm)));
        }
        prop_assert!(same(moved.spectral_constant(), head.spectral_constant()));
        prop_assert!(same(moved.loss(&z, label), head.loss(&z, label)));
    }

    /// For every displacement there is a two-class head of norm C that loses C·r by it: no smaller
    /// constant exists for an additive bound.
    #[test]
    fn a5_converse(seed in any::<u64>(), d in 1usize..11, c in 0.01f64..100.0, decade in -3.0f64..1.0) {
        let mut random = Key::new(seed).stream();
        let delta: Vec<f64> = (0..d).map(|_| 10f64.powf(decade) * random.normal()).collect();
        let r = LpNorm::L2.of(&delta);
        prop_assume!(r > 0.0 && c * r > 1e-6);
        let v: Vec<f64> = delta.iter().map(|x| c * x / r).collect();
        let head = LinearHead::new(2, d, [vec![0.0; d], v].concat(), vec![0.0, 20.0]);
        let gain = head.loss(&delta, 0) - head.loss(&vec![0.0; d], 0);
        // 1 − gain/(C·r) is at most e^{−20}, and the subtraction loses 20·1e-16 absolutely.
        prop_assert!((gain - c * r).abs() <= 2.1e-9 * c * r + 1e-14, "{gain} of {}", c * r);
        prop_assert!((head.constant(LpNorm::L2) / c - 1.0).abs() < 1e-12);
    }
}

proptest! {
    #![proptest_config(thousand())]

    /// In the plane, where Σ⁻¹ is a formula: the inequality, its equality case v = Σ⁻¹Δ, and what a linear
    /// map does to the displacement: nothing.
    #[test]
    fn a6_whitened(seed in any::<u64>(), decade in -2.0f64..2.0) {
        let mut random = Key::new(seed).stream();
        let mut draw = |scale: f64| [scale * random.normal(), scale * random.normal()];
        let map = [draw(1.0), draw(10f64.powf(decade))];
        let determinant = map[0][0] * map[1][1] - map[0][1] * map[1][0];
        prop_assume!(determinant.abs() > 1e-3 * 10f64.powf(decade));
        let points: Vec<[f64; 2]> = (0..20).map(|_| draw(1.0)).collect();
        let (v, delta) = (draw(1.0), draw(1.0));
        let apply = |z: &[f64; 2]| map.map(|row| row[0] * z[0] + row[1] * z[1]);

        let sigma = covariance(&points);
        let whitened = whitened_square(&sigma, &delta);
        let bound = (variance(&sigma, &v) * whitened).sqrt();
        at_most("A6", (v[0] * delta[0] + v[1] * delta[1]).abs(), bound)?;

        let worst = solve(&sigma, &delta);
        let reached = worst[0] * delta[0] + worst[1] * delta[1];
        prop_assert!((reached / (variance(&sigma, &worst) * whitened).sqrt() - 1.0).abs() < 1e-9);

        let mapped: Vec<[f64; 2]> = points.iter().map(apply).collect();
        let after = whitened_square(&covariance(&mapped), &apply(&delta));
        // The condition of the map, at most some 1e6 squared, times 1e-16.
        prop_assert!((after / whitened - 1.0).abs() < 1e-3, "{after} but {whitened}");
    }
}

fn covariance(points: &[[f64; 2]]) -> [[f64; 2]; 2] {
    let n = points.len() as f64;
    let mean = [0, 1].map(|c| points.iter().map(|z| z[c]).sum::<f64>() / n);
    [0, 1]
        .map(|a| [0, 1].map(|b| points.iter().map(|z| (z[a] - mean[a]) * (z[b] - mean[b])).sum::<f64>() / n))
}

fn variance(s: &[[f64; 2]; 2], v: &[f64; 2]) -> f64 {
    v[0] * (s[0][0] * v[0] + s[0][1] * v[1]) + v[1] * (s[1][0] * v[0] + s[1][1] * v[1])
}

fn solve(s: &[[f64; 2]; 2], b: &[f64; 2]) -> [f64; 2] {
    let determinant = s[0][0] * s[1][1] - s[0][1] * s[1][0];
    [(s[1][1] * b[0] - s[0][1] * b[1]) / determinant, (s[0][0] * b[1] - s[1][0] * b[0]) / determinant]
}

/// `Δᵀ Σ⁻¹ Δ`
fn whitened_square(s: &[[f64; 2]; 2], delta: &[f64; 2]) -> f64 {
    let x = solve(s, delta);
    delta[0] * x[0] + delta[1] * x[1]
}

/// Why the gap form is the one to report: at a well classified point the additive bound charges the
/// whole shift.
#[test]
fn well_classified_points_cost_little() {
    let head = LinearHead::new(2, 1, vec![0.0, 1.0], vec![0.0, -10.0]);
    let clean = head.loss(&[0.0], 0);
    let cost = head.logit_gap_bound(&[0.0], 0, &[0.0, 1.0]) - clean;
    assert!(cost > 7.7e-5 && cost < 7.9e-5, "{cost:e}"); // e⁻⁹ − e⁻¹⁰
    assert_eq!(head.additive_bound(&[0.0], 0, &[0.0, 1.0]), clean + 1.0);
}
