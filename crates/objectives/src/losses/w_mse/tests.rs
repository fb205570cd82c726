use super::*;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_golden_gradient, assert_order_is_free,
    golden_views, gradients, normal,
};
use tarrl_tensor::cpu;

/// The golden views without their last column: four rows of two dimensions.
fn narrow() -> [Tensor; 2] {
    golden_views().map(|z| z.slice(1, 0, 2))
}

fn whole(n: usize) -> WMse {
    WMse { block: n, ..WMse::default() }
}

#[test]
fn values_and_gradient_match_golden_values() {
    let at = narrow();
    let white = whiten(&at[0], 0.0).to_vec::<f64>();
    let golden = [
        0.387298335,
        1.420093894,
        -0.387298335,
        -0.129099445,
        1.161895004,
        -0.903696114,
        -1.161895004,
        -0.387298335,
    ];
    for (found, golden) in white.iter().zip(golden) {
        assert!((found - golden).abs() < 1e-9, "{white:?}");
    }
    let loss = |z: &[Tensor]| w_mse(&[&z[0], &z[1]], &whole(4), Key::new(1));
    assert_golden(&loss, &at, 0.541091900);
    assert_golden_gradient(&loss, &at, &[-0.219326804, 0.212836861], Some(1.304807554));
}

#[test]
fn whitened_rows_have_the_identity_as_covariance() {
    let white = whiten(&normal(1, 40, 5), 0.0);
    assert_close(&white.mean(0), &white.mean(0).zeros_like(), 1e-13);
    let covariance = white.matmul_with(&white, Transpose::LEFT).mul_scalar(1.0 / 39.0);
    assert_close(&covariance, &rows::diagonal(&white, 5, 1.0), 1e-12);
}

/// `Ā = L⁻ᵀB̄`, `L̄ = −tril(Ā Bᵀ)`, `P = tril(Lᵀ L̄)` with half its diagonal, `Σ̄ = ½ L⁻ᵀ(P + Pᵀ)L⁻¹`,
/// `dx = Āᵀ + 2(1 − ε) x_c Σ̄/(n − 1)` less its mean, for `B = Yᵀ` and its gradient B̄, in plain loops.
#[test]
fn gradients_match_the_closed_form() {
    let (n, d, epsilon) = (7, 3, 0.1);
    let (x, weight) = (normal(1, n, d), normal(2, n, d));
    let found =
        gradients(&|z| (&whiten(&z[0], epsilon) * &weight).sum_all(), std::slice::from_ref(&x)).remove(0);

    let centered = &x - &x.mean(0);
    let sigma = centered.matmul_with(&centered, Transpose::LEFT).mul_scalar((1.0 - epsilon) / (n - 1) as f64);
    let sigma = (&sigma + &rows::diagonal(&x, d, epsilon)).to_vec::<f64>();
    let mut l = vec![0.0; d * d];
    for i in 0..d {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| l[i * d + k] * l[j * d + k]).sum();
            l[i * d + j] = if i == j {
                (sigma[i * d + i] - sum).sqrt()
            } else {
                (sigma[i * d + j] - sum) / l[j * d + j]
            };
        }
    }
    // The inverse of a lower triangle, by forward substitution of the unit vectors.
    let mut inverse = vec![0.0; d * d];
    for column in 0..d {
        for i in 0..d {
            let sum: f64 = (0..i).map(|k| l[i * d + k] * inverse[k * d + column]).sum();
            inverse[i * d + column] = (f64::from(u8::from(i == column)) - sum) / l[i * d + i];
        }
    }
    let matrix = |values: &[f64]| Tensor::new(&cpu(), [d, d], values);
    let lower = |t: &Tensor, diagonal: f64| {
        let values = t.to_vec::<f64>();
        let keep = |i: usize| match (i / d).cmp(&(i % d)) {
            std::cmp::Ordering::Less => 0.0,
            std::cmp::Ordering::Equal => diagonal,
            std::cmp::Ordering::Greater => 1.0,
        };
        matrix(&values.iter().enumerate().map(|(i, v)| v * keep(i)).collect::<Vec<_>>())
    };
    let (l, inverse) = (matrix(&l), matrix(&inverse));
    let b = inverse.matmul_with(&centered, Transpose::RIGHT); // (d, n)
    assert_close(&whiten(&x, epsilon), &b.t(), 1e-12);
    let a = inverse.t().matmul(&weight.t());
    let l_bar = lower(&a.matmul_with(&b, Transpose::RIGHT), 1.0).neg();
    let p = lower(&l.t().matmul(&l_bar), 0.5);
    let sigma_bar = inverse.t().matmul(&(&p + &p.t())).matmul(&inverse).mul_scalar(0.5);
    let dx = &a.t() + &centered.matmul(&sigma_bar).mul_scalar(2.0 * (1.0 - epsilon) / (n - 1) as f64);
    assert_close(&found, &(&dx - &dx.mean(0)), 1e-11);
}

#[test]
fn gradients_match_differences_and_the_order_of_rows_is_free() {
    let at = [normal(3, 6, 2), normal(4, 6, 2), normal(5, 6, 2)];
    let loss = |z: &[Tensor]| w_mse(&z.iter().collect::<Vec<_>>(), &whole(6), Key::new(1));
    assert_differences(&loss, &at);
    assert_order_is_free(&loss, &at);
    let pairs = [(0, 1), (0, 2), (1, 2)].map(|(i, j)| loss(&[at[i].clone(), at[j].clone()]).item());
    assert!((loss(&at).item() - pairs.iter().sum::<f64>() / 3.0).abs() < 1e-13);
}

/// Any lower-triangular map with a positive diagonal of one view is undone by its whitening.
#[test]
fn the_loss_is_invariant_to_triangular_maps() {
    let at = narrow();
    let map = Tensor::new(&cpu(), [2, 2], &[0.5, 0.0, -2.0, 3.0]);
    let moved = at[0].matmul_with(&map, Transpose::RIGHT);
    let value = w_mse(&[&moved, &at[1]], &whole(4), Key::new(1)).item();
    assert!((value - 0.541091900).abs() < 1e-9, "{value}");
}

/// Each block is whitened for itself, the same rows of all views in one block, and the key decides which.
#[test]
fn blocks_are_cut_at_random_and_together() {
    let at = [normal(1, 8, 2), normal(2, 8, 2)];
    let of = |config: WMse, seed: u64| w_mse(&[&at[0], &at[1]], &config, Key::new(seed)).item();
    let halves = WMse { block: 4, ..WMse::default() };
    assert_eq!(of(halves, 1), of(halves, 1));
    assert!((1..9).any(|seed| (of(halves, seed) - of(halves, 0)).abs() > 1e-3));
    assert!((of(whole(8), 1) - of(whole(8), 2)).abs() < 1e-12);
    let same = w_mse(&[&at[0], &at[0]], &halves, Key::new(1)).item();
    assert!(same.abs() < 1e-12, "views that agree cost nothing: {same}");
    let two = of(WMse { cuts: 2, ..halves }, 5);
    let mut order: Vec<f64> = (0..2)
        .map(|cut: usize| {
            let mut rows: Vec<u32> = (0..8).collect();
            Key::new(5).fold(cut).stream().shuffle(&mut rows);
            let part = |half: &[u32]| {
                let rows = Array::new(&cpu(), [4], half);
                w_mse(&[&at[0].gather(0, &rows), &at[1].gather(0, &rows)], &whole(4), Key::new(1)).item()
            };
            (part(&rows[..4]) + part(&rows[4..])) / 2.0
        })
        .collect();
    order.push(two);
    assert!((order[2] - (order[0] + order[1]) / 2.0).abs() < 1e-12, "{order:?}");
}

#[test]
#[should_panic(expected = "6 rows in 1 cuts into blocks of 4")]
fn a_batch_that_is_no_multiple_of_the_block_panics() {
    w_mse(&[&normal(1, 6, 2), &normal(2, 6, 2)], &whole(4), Key::new(1));
}
