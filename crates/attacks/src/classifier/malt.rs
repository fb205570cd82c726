//! The targets of MALT: the classes whose boundaries are nearest if logits were linear.

use crate::classifier::losses::classes;
use crate::threat::Norm;
use tarrl_tensor::{Tensor, value_and_grad};

/// For each sample of `x (n, …)` the `count` classes other than its label that an attack within a ball of `norm` should aim
/// at first, nearest first: those of least `(z_y − z_t) / ‖∇_x (z_y − z_t)‖*`, the distance to the boundary of a linear model,
/// in the dual norm (Melamed et al. 2024). Largest logits, which AutoAttack aims at, forget the slope.
///
/// One forward and one backward pass for each class. A class without a slope comes last; of equals the first is first.
///
/// # Panics
/// If there are not as many labels as samples, a label is out of range or there are fewer than two classes.
#[track_caller]
pub fn malt_targets(
    logits: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    labels: &[u32],
    norm: Norm,
    count: usize,
) -> Vec<Vec<u32>> {
    let (n, k) = classes(&logits(x), labels);
    let own: Vec<usize> = labels.iter().map(|&y| y as usize).collect();
    let len = x.shape().iter().product::<usize>() / n;
    // By class, then by sample.
    let mut distances = vec![vec![f64::INFINITY; n]; k];
    for (target, distances) in distances.iter_mut().enumerate() {
        let gap = |u: &Tensor| {
            let z = logits(u);
            &z.pick_columns(&own) - &z.pick_columns(&vec![target; n])
        };
        let gaps = gap(x).array().to_f64();
        let (_, slopes) = value_and_grad(x, |u| gap(u).sum_all());
        for (i, slope) in slopes.array().to_f64().chunks(len).enumerate() {
            let distance = gaps[i] / dual_norm(slope, norm);
            if target != own[i] && !distance.is_nan() {
                distances[i] = distance;
            }
        }
    }
    let nearest = |(i, own): (usize, &usize)| {
        let mut order: Vec<u32> = (0..k as u32).filter(|&t| t as usize != *own).collect();
        order.sort_by(|&a, &b| distances[a as usize][i].total_cmp(&distances[b as usize][i]));
        order.truncate(count);
        order
    };
    own.iter().enumerate().map(nearest).collect()
}

/// The largest change of a linear function with this slope over a ball of radius one.
fn dual_norm(slope: &[f64], norm: Norm) -> f64 {
    let sizes = slope.iter().map(|v| v.abs());
    match norm {
        Norm::Linf => sizes.sum(),
        Norm::L2 => slope.iter().map(|v| v * v).sum::<f64>().sqrt(),
        Norm::L1 | Norm::L0 => sizes.fold(0.0, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::cpu;

    /// Logits 0, 3 x₁ − 2 and x₂ − 1 at x = 0: gaps 2 and 1, distances 2/3 and 1. The largest rival is the farther one.
    #[test]
    fn the_nearest_boundary_of_a_linear_model_comes_first() {
        let x = Tensor::new(&cpu(), [1, 2], &[0.0f64, 0.0]);
        let weight = Tensor::new(&cpu(), [2, 3], &[0.0f64, 3.0, 0.0, 0.0, 0.0, 1.0]);
        let bias = Tensor::new(&cpu(), [1, 3], &[0.0f64, -2.0, -1.0]);
        let logits = |u: &Tensor| &u.matmul(&weight) + &bias;
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            assert_eq!(malt_targets(&logits, &x, &[0], norm, 9), [vec![1, 2]]);
        }
        assert_eq!(malt_targets(&logits, &x, &[0], Norm::Linf, 1), [vec![1]]);
        assert_eq!(malt_targets(&logits, &x, &[1], Norm::Linf, 1).concat().len(), 1);
    }

    /// Slopes (1, 1) and (1.5, 0): longer in l1 is the first, in l∞ the second.
    #[test]
    fn distances_are_in_the_norm_of_the_ball() {
        let x = Tensor::new(&cpu(), [1, 2], &[0.0f64, 0.0]);
        let weight = Tensor::new(&cpu(), [2, 3], &[0.0f64, 1.0, 1.5, 0.0, 1.0, 0.0]);
        let bias = Tensor::new(&cpu(), [1, 3], &[1.0f64, 0.0, 0.0]);
        let logits = |u: &Tensor| &u.matmul(&weight) + &bias;
        // Distances 1/2 and 1/1.5 in l∞; 1/√2 and 1/1.5 in l2; 1 and 1/1.5 in l1.
        assert_eq!(malt_targets(&logits, &x, &[0], Norm::Linf, 2), [vec![1, 2]]);
        assert_eq!(malt_targets(&logits, &x, &[0], Norm::L2, 2), [vec![2, 1]]);
        assert_eq!(malt_targets(&logits, &x, &[0], Norm::L1, 2), [vec![2, 1]]);
    }

    #[test]
    fn a_class_without_a_slope_comes_last() {
        let x = Tensor::new(&cpu(), [1, 1], &[0.0f64]);
        let weight = Tensor::new(&cpu(), [1, 3], &[0.0f64, 0.0, 0.1]);
        let bias = Tensor::new(&cpu(), [1, 3], &[1.0f64, 0.9, 0.0]);
        assert_eq!(malt_targets(&|u| &u.matmul(&weight) + &bias, &x, &[0], Norm::L2, 2), [vec![2, 1]]);
    }
}
