//! Divergences that keep rank: golden values, and the theorems of nearest neighbors and of tasks in all directions.

use super::{keys, normal};
use crate::divergence::{VOLUME_RIDGE, nearest_distances, total_deviation, volume_deviation};
use crate::{Divergence, KnnHead, LpNorm};
use proptest::prelude::*;
use tarrl_tensor::{Tensor, cpu};

fn matrix(rows: usize, columns: usize, data: &[f64]) -> Tensor {
    Tensor::new(&cpu(), [rows, columns], data)
}

#[test]
fn distances_to_the_nearest_other_point_have_a_floor_of_a_quarter_of_their_mean() {
    // On a line: 0.1, 0.1, 9.9 and 10 to the nearest, 5.025 on average.
    let z = matrix(4, 1, &[0.0, 0.1, 10.0, 20.0]);
    let found = nearest_distances(&z).to_vec::<f64>();
    for (found, expected) in found.iter().zip([1.25625, 1.25625, 9.9, 10.0]) {
        assert!((found - expected).abs() < 1e-14, "{found} but {expected}");
    }
    let moved = matrix(4, 1, &[0.5, 0.1, 11.0, 20.0]);
    let values = Divergence::RelativeNearest.per_sample(&z, &moved).to_vec::<f64>();
    for (found, expected) in values.iter().zip([0.5 / 1.25625, 0.0, 1.0 / 9.9, 0.0]) {
        assert!((found - expected).abs() < 1e-14, "{found} but {expected}");
    }
}

#[test]
fn the_volume_of_a_rectangle_of_four_points() {
    // Variances 4 and 1, their mean 2.5.
    let z = matrix(4, 2, &[2.0, 1.0, -2.0, 1.0, 2.0, -1.0, -2.0, -1.0]);
    let added = VOLUME_RIDGE * 2.5;
    let expected = 2f64.sqrt() * ((4.0 + added) * (1.0 + added)).powf(0.25);
    // The floor of a variance is 1e-12.
    assert!((volume_deviation(&z).item() / expected - 1.0).abs() < 1e-11);
    let moved = &z + &matrix(1, 2, &[0.3, 0.4]);
    let found = Divergence::RelativeVolume.mean(&z, &moved).item();
    assert!((found / (0.5 / expected) - 1.0).abs() < 1e-11);
}

/// What they are for: with the same displacement and total deviation, fewer directions make both larger.
#[test]
fn a_lost_direction_makes_the_same_displacement_larger() {
    let z = normal(5, 64, 8);
    let narrow = {
        let kept: Vec<f64> = (0..8).map(|i| if i < 2 { 1.0 } else { 1e-3 }).collect();
        let squeezed = &z * &matrix(1, 8, &kept);
        let grown = total_deviation(&z).item() / total_deviation(&squeezed).item();
        squeezed.mul_scalar(grown)
    };
    let step = normal(6, 64, 8).mul_scalar(0.1);
    let value = |divergence: Divergence, z: &Tensor| divergence.mean(z, &(z + &step)).item();
    for divergence in [Divergence::RelativeNearest, Divergence::RelativeVolume] {
        let (wide, narrow) = (value(divergence, &z), value(divergence, &narrow));
        assert!(narrow > 1.5 * wide, "{divergence:?}: {narrow} but {wide}");
    }
    let (wide, narrow) = (value(Divergence::RelativeL2, &z), value(Divergence::RelativeL2, &narrow));
    assert!((narrow / wide - 1.0).abs() < 0.2, "relative-l2 sees no difference: {narrow} but {wide}");
}

proptest! {
    /// Theorem B4b: whatever the labels, nearest neighbors among the clean samples err on at most twice the mean of the
    /// attacked ones, and on those whose distance is below its floor.
    #[test]
    fn b4b_recognition(seed in any::<u64>(), n in 2usize..12, d in 1usize..5, decade in -2.0f64..0.5, classes in 1usize..4) {
        let z = normal(seed, n, d);
        let moved = &z + &normal(!seed, n, d).mul_scalar(10f64.powf(decade));
        let values = Divergence::RelativeNearest.per_sample(&z, &moved).to_vec::<f64>();
        let (bank, queries) = (z.to_vec::<f64>(), moved.to_vec::<f64>());
        let row = |of: &[f64], i: usize| of[i * d..(i + 1) * d].to_vec();
        let apart = |a: &[f64], b: &[f64]| LpNorm::L2.of(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>());
        let nearest = |of: &[f64], but: Option<usize>| {
            let others = (0..n).filter(|&j| Some(j) != but);
            others.map(|j| (apart(of, &row(&bank, j)), j)).fold((f64::INFINITY, 0), |a, b| if b.0 < a.0 { b } else { a })
        };
        let distances: Vec<f64> = (0..n).map(|i| nearest(&row(&bank, i), Some(i)).0).collect();
        let floor = 0.25 * distances.iter().sum::<f64>() / n as f64;
        // The same distances again, up to rounding.
        for (found, exact) in nearest_distances(&z).to_vec::<f64>().iter().zip(&distances) {
            prop_assert!((found / exact.max(floor) - 1.0).abs() < 1e-12);
        }
        let labels: Vec<usize> = keys(seed, n).iter().map(|key| key.stream().below(classes)).collect();
        let head = KnnHead::new(d, 1, bank.clone(), labels.clone());
        let (mut errors, mut close) = (0.0, 0.0);
        for i in 0..n {
            let (_, found) = nearest(&row(&queries, i), None);
            let above = distances[i] >= floor;
            prop_assert!(!(above && values[i] < 0.5 - 1e-12) || found == i, "sample {i} is taken for {found}");
            errors += f64::from(u8::from(!head.votes_for(&row(&queries, i), labels[i])));
            close += f64::from(u8::from(!above));
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        prop_assert!(errors / n as f64 <= 2.0 * mean + close / n as f64 + 1e-12);
    }

    /// Theorem A6b: of tasks in orthogonal directions whose gaps have deviation 1, the head norms have a geometric mean of
    /// at most √d over the volume's deviation, and exactly that in the principal directions.
    #[test]
    fn a6b_tasks_in_all_directions(seed in any::<u64>(), n in 2usize..12, d in 1usize..6, decade in -1.0f64..1.0) {
        let scales: Vec<f64> = (0..d).map(|i| 10f64.powf(decade * i as f64 / d as f64)).collect();
        let z = &normal(seed, n, d) * &matrix(1, d, &scales);
        let centered = (&z - &z.mean(0)).to_vec::<f64>();
        let mean_variance = total_deviation(&z).item().powi(2) / d as f64;
        // Gram and Schmidt on random vectors.
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for row in normal(!seed, d, d).to_vec::<f64>().chunks(d) {
            let mut v = row.to_vec();
            for b in &basis {
                let along: f64 = v.iter().zip(b).map(|(v, b)| v * b).sum();
                v.iter_mut().zip(b).for_each(|(v, b)| *v -= along * b);
            }
            let length = LpNorm::L2.of(&v);
            basis.push(v.into_iter().map(|v| v / length).collect());
        }
        let logarithms = basis.iter().map(|v| {
            let gaps = centered.chunks(d).map(|z| z.iter().zip(v).map(|(z, v)| z * v).sum::<f64>());
            let variance = gaps.map(|gap| gap * gap).sum::<f64>() / n as f64 + VOLUME_RIDGE * mean_variance;
            -0.5 * variance.ln()
        });
        let geometric_mean = (logarithms.sum::<f64>() / d as f64).exp();
        let most = (d as f64).sqrt() / volume_deviation(&z).item();
        prop_assert!(geometric_mean <= most * (1.0 + 1e-7), "{geometric_mean} > {most}");
        prop_assert!(volume_deviation(&z).item() <= total_deviation(&z).item() * (1.0 + VOLUME_RIDGE).sqrt() * (1.0 + 1e-7));
    }
}
