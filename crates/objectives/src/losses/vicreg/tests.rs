use super::*;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_golden_gradient, assert_order_is_free,
    golden_views, gradients, identity, normal,
};
use tarrl_tensor::{DType, cpu};

const USUAL: VicReg = VicReg { invariance: 25.0, variance: 25.0, covariance: 1.0 };

#[test]
fn values_and_gradient_match_golden_values() {
    let at = golden_views();
    let part = |invariance, variance, covariance| VicReg { invariance, variance, covariance };
    let of = |config: VicReg| move |z: &[Tensor]| vicreg(&z[0], &z[1], &config);
    assert_golden(&of(part(1.0, 0.0, 0.0)), &at, 0.291666667);
    assert_golden(&of(part(0.0, 1.0, 0.0)), &at, 0.103654179);
    assert_golden(&of(part(0.0, 0.0, 1.0)), &at, 0.398437500);
    assert_golden(&of(USUAL), &at, 10.281458646);
    let lacks = [0, 1].map(|i| hinge_and_covariance(&at[i], 4).0.item());
    assert!((lacks[0] - 0.075320951).abs() < 1e-9 && (lacks[1] - 0.131987407).abs() < 1e-9, "{lacks:?}");
    let row = [-0.166666667, 2.428722649, -1.831802441];
    assert_golden_gradient(&of(USUAL), &at, &row, Some(8.057243925));
}

/// Without the half on the variance, with a half on the covariance, with biased variance.
#[test]
fn the_value_is_not_that_of_other_conventions() {
    let [z1, z2] = golden_views();
    let value = vicreg(&z1, &z2, &VicReg::default()).item();
    for wrong in [12.872813125, 10.082239896, 12.577558818] {
        assert!((value - wrong).abs() > 0.1, "{value}");
    }
}

/// `2λ(z1 − z2)/(nd) − (μ/2d) [std < 1] z_c/((n − 1) std) + 4ν z_c offdiag(Cov)/(d (n − 1))` in the first view.
#[test]
fn gradients_match_the_closed_form() {
    let (n, d) = (6, 3);
    let at = [normal(1, n, d).mul_scalar(0.9), normal(2, n, d)];
    let found = gradients(&|z| vicreg(&z[0], &z[1], &USUAL), &at).remove(0);
    let (rows, cols) = (n as f64, d as f64);
    let centered = &at[0] - &at[0].mean(0);
    let deviation = centered.square().sum(0).mul_scalar(1.0 / (rows - 1.0)).add_scalar(EPS).sqrt();
    let below = Tensor::full(&cpu(), [1, d], DType::F64, 1.0).greater(&deviation);
    assert!(below.to_vec::<f64>().iter().sum::<f64>() > 0.0, "nothing lacks anything");
    let covariance = centered.matmul_with(&centered, Transpose::LEFT).mul_scalar(1.0 / (rows - 1.0));
    let others = &covariance * &identity(d).neg().add_scalar(1.0);
    let pull = (&at[0] - &at[1]).mul_scalar(50.0 / (rows * cols));
    let spread = (&(&centered * &below) / &deviation).mul_scalar(12.5 / (cols * (rows - 1.0)));
    let mix = centered.matmul(&others).mul_scalar(4.0 / (cols * (rows - 1.0)));
    assert_close(&found, &(&(&pull - &spread) + &mix), 1e-12);
}

#[test]
fn gradients_match_differences_and_order_and_swap_are_free() {
    let at = [normal(3, 5, 3), normal(4, 5, 3)];
    let loss = |z: &[Tensor]| vicreg(&z[0], &z[1], &USUAL);
    assert_differences(&loss, &at);
    assert_order_is_free(&loss, &at);
    assert!((vicreg(&at[1], &at[0], &USUAL).item() - loss(&at).item()).abs() < 1e-12);
    // Scale matters: it is not a loss of directions.
    assert!((vicreg(&at[0].mul_scalar(2.0), &at[1], &USUAL).item() - loss(&at).item()).abs() > 0.1);
}

/// √1e-4 = 0.01 is all the deviation that a constant has.
#[test]
fn constant_embeddings_cost_24_75() {
    let same = Tensor::full(&cpu(), [4, 3], DType::F64, 0.7);
    assert!((vicreg(&same, &same, &USUAL).item() - 24.75).abs() < 1e-12);
    let found = gradients(&|z| vicreg(&z[0], &z[1], &USUAL), &[same.clone(), same]);
    assert!(found.iter().all(|g| g.to_vec::<f64>().iter().all(|g| g.is_finite())));
}

#[test]
#[should_panic(expected = "one row of (1, 3) has no variance")]
fn one_row_panics() {
    vicreg(&normal(1, 1, 3), &normal(2, 1, 3), &USUAL);
}
