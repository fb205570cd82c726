use super::*;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_golden_gradient, assert_order_is_free,
    golden_views, gradients, identity, labels, normal, through_unit,
};
use crate::{nt_xent, nt_xent_together};
use proptest::prelude::*;
use tarrl_tensor::cpu;

fn of(temperature: f64, base_temperature: f64) -> impl Fn(&[Tensor]) -> Tensor {
    let config = SupCon { temperature, base_temperature };
    move |z| sup_con(&[&z[0], &z[1]], &labels(&[0, 1, 0, 1]), &config)
}

#[test]
fn values_and_gradient_match_golden_values() {
    let at = golden_views();
    assert_golden(&of(0.1, 0.0), &at, 5.131081162);
    assert_golden(&of(0.1, 0.07), &at, 7.330115946);
    assert_golden(&of(0.5, 0.0), &at, 1.975283116);
    assert_golden(&of(0.07, 0.07), &at, 7.174108788);
    assert_golden_gradient(&of(0.1, 0.1), &at, &[-0.489901711, 0.244950856, -0.569098397], Some(1.920815673));
}

/// The form with all positives summed inside the logarithm.
#[test]
fn the_value_is_not_that_of_the_inner_sum_form() {
    for (temperature, wrong) in [(0.1, 0.255780982), (0.2, 0.340692169), (0.5, 0.577245844)] {
        assert!((of(temperature, 0.0)(&golden_views()).item() - wrong).abs() > 1.0);
    }
}

/// As of NT-Xent with the positives shared out: `G = (P − Y)/(mτ)` and `(G + Gᵀ) z` in the unit rows.
#[test]
fn gradients_match_the_closed_form() {
    let (n, d, temperature) = (4, 3, 0.4);
    let at = [normal(1, n, d), normal(2, n, d)];
    let config = SupCon { temperature, base_temperature: 0.0 };
    let found = gradients(&|z| sup_con(&[&z[0], &z[1]], &labels(&[0, 1, 0, 2]), &config), &at);
    let all = Tensor::concat(&[&at[0], &at[1]], 0);
    let unit = all.l2_normalize(0.0);
    let masked = &unit.matmul_with(&unit, Transpose::RIGHT).mul_scalar(1.0 / temperature)
        - &identity(2 * n).mul_scalar(1e6);
    // Samples 0 and 2 have three positives each, the others one: their own second view.
    let third = 1.0 / 3.0;
    let mut y = vec![0.0; 64];
    for (i, j) in [(0, 2), (0, 4), (0, 6), (2, 4), (2, 6), (4, 6)] {
        (y[i * 8 + j], y[j * 8 + i]) = (third, third);
    }
    for (i, j) in [(1, 5), (3, 7)] {
        (y[i * 8 + j], y[j * 8 + i]) = (1.0, 1.0);
    }
    let g = (&masked.softmax() - &Tensor::new(&cpu(), [8, 8], &y)).mul_scalar(1.0 / (8.0 * temperature));
    let expected = through_unit(&(&g + &g.t()).matmul(&unit), &all);
    assert_close(&Tensor::concat(&[&found[0], &found[1]], 0), &expected, 1e-13);
}

/// Of two rows, one per view, with labels of their own: each has one positive and no negative.
#[test]
fn rows_without_positives_count_in_the_mean() {
    // Without a second view of its own, row 0 would have none; with two views every row has one, so that an empty set
    // needs a weight of zero: rows alone.
    let weights = positives(&golden_views()[0], &[5, 6, 5], 3);
    assert_eq!(weights.to_vec::<f64>(), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
}

/// One-sided similarities: the same value, and of the closed form `G z` instead of `(G + Gᵀ) z`.
#[test]
fn anchor_sides_keep_the_value_and_the_anchors_gradient() {
    let (n, temperature) = (4, 0.5);
    let at = [normal(1, n, 3), normal(2, n, 3)];
    let one = |z: &[Tensor]| nt_xent_together(&[&z[0], &z[1]], temperature, Sides::Anchor);
    let both = |z: &[Tensor]| nt_xent_together(&[&z[0], &z[1]], temperature, Sides::Both);
    assert!((one(&at).item() - both(&at).item()).abs() < 1e-14);
    let all = Tensor::concat(&[&at[0], &at[1]], 0);
    let unit = all.l2_normalize(0.0);
    let masked = &unit.matmul_with(&unit, Transpose::RIGHT).mul_scalar(1.0 / temperature)
        - &identity(2 * n).mul_scalar(1e6);
    let other: Vec<f64> = (0..64).map(|i| f64::from(u8::from((i / 8 + n) % (2 * n) == i % 8))).collect();
    let g = (&masked.softmax() - &Tensor::new(&cpu(), [8, 8], &other)).mul_scalar(1.0 / (8.0 * temperature));
    let found = gradients(&one, &at);
    let expected = through_unit(&g.matmul(&unit), &all);
    assert_close(&Tensor::concat(&[&found[0], &found[1]], 0), &expected, 1e-13);
    assert_differences(&both, &at);
}

/// Three views, written out: six ordered pairs, each one positive against all other rows; RoCL divides their sum by 3n.
#[test]
fn three_views_are_the_mean_over_ordered_pairs() {
    let (n, temperature) = (3, 0.5);
    let views = [normal(1, n, 4), normal(2, n, 4), normal(3, n, 4)];
    let unit = Tensor::concat(&[&views[0], &views[1], &views[2]], 0).l2_normalize(0.0);
    let s = unit.matmul_with(&unit, Transpose::RIGHT).mul_scalar(1.0 / temperature).to_vec::<f64>();
    let mut sum = 0.0;
    for (a, b) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        for i in 0..n {
            let (row, positive) = (a * n + i, b * n + i);
            let total: f64 = (0..9).filter(|&j| j != row).map(|j| s[row * 9 + j].exp()).sum();
            sum += total.ln() - s[row * 9 + positive];
        }
    }
    let found = nt_xent_together(&[&views[0], &views[1], &views[2]], temperature, Sides::Anchor).item();
    assert!((2.0 * found - sum / 9.0).abs() < 1e-13, "{found} {sum}");
}

proptest! {
    /// With a label for each image it is NT-Xent; scales of rows and orders of samples do not matter.
    #[test]
    fn with_a_label_for_each_image_it_equals_nt_xent(seed in any::<u64>(), n in 2usize..7, temperature in 0.05f64..2.0) {
        let at = [normal(seed, n, 3), normal(!seed, n, 3)];
        let own = labels(&(0..n as u32).rev().collect::<Vec<_>>());
        let config = SupCon { temperature, base_temperature: temperature };
        let value = sup_con(&[&at[0], &at[1]], &own, &config).item();
        let plain = nt_xent(&at[0], &at[1], temperature).item();
        let slack = 1e-12 * (1.0 + 1.0 / temperature);
        prop_assert!((value - plain).abs() < slack, "{} {}", value, plain);
        let scaled = sup_con(&[&at[1], &at[0].mul_scalar(7.0)], &own, &config).item();
        prop_assert!((value - scaled).abs() < slack);
        let grouped = labels(&vec![1; n]);
        assert_order_is_free(&|z| sup_con(&[&z[0], &z[1]], &grouped, &config), &at);
    }
}

#[test]
#[should_panic(expected = "labels (3)")]
fn labels_of_another_length_panic() {
    let [a, b] = golden_views();
    sup_con(&[&a, &b], &labels(&[0, 1, 2]), &SupCon::default());
}
