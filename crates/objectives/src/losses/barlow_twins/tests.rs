use super::*;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_golden_gradient, assert_order_is_free,
    golden_views, gradients, identity, normal,
};
use tarrl_tensor::{DType, cpu};

fn of(off_diagonal: f64) -> BarlowTwins {
    BarlowTwins { off_diagonal, ..BarlowTwins::default() }
}

#[test]
fn values_and_gradient_match_golden_values() {
    let at = golden_views();
    assert_golden(&|z| barlow_twins(&z[0], &z[1], &of(0.0)), &at, 0.040402930);
    assert_golden(&|z| barlow_twins(&z[0], &z[1], &of(1.0)), &at, 0.040402930 + 1.032433314);
    assert_golden(&|z| barlow_twins(&z[0], &z[1], &of(0.005)), &at, 0.045565096);
    assert_golden(&|z| barlow_twins(&z[0], &z[1], &BarlowTwins::default()), &at, 0.045668340);
    let scaled = BarlowTwins { scale: 0.1, ..BarlowTwins::default() };
    assert_golden(&|z| barlow_twins(&z[0], &z[1], &scaled), &at, 0.004566834);
    let row = [-0.002030921, 0.074203358, -0.000736499];
    assert_golden_gradient(&|z| barlow_twins(&z[0], &z[1], &of(0.005)), &at, &row, Some(0.153806129));
    let correlation = standardized(&at[0]).matmul_with(&standardized(&at[1]), Transpose::LEFT);
    for (found, golden) in correlation.to_vec::<f64>().iter().zip([0.982694714, -0.774584391, -0.248066950]) {
        assert!((found / 4.0 - golden).abs() < 1e-9, "{found}");
    }
}

/// With the unbiased deviation of the paper's pseudo-code the diagonal could never be one.
#[test]
fn the_variant_with_unbiased_deviations_does_not_appear() {
    let [z1, z2] = golden_views();
    assert!((barlow_twins(&z1, &z2, &of(0.005)).item() - 0.318474006).abs() > 0.2);
}

/// `dC = 2 (C − I)∘(I + λ(1 − I))`, `dẑ1 = ẑ2 dCᵀ/n`, then `dz = (dẑ − mean dẑ − ẑ mean(dẑ∘ẑ))/√(var + ε)`.
#[test]
fn gradients_match_the_closed_form() {
    let (n, d, lambda) = (6, 3, 0.3);
    let at = [normal(1, n, d), normal(2, n, d)];
    let found = gradients(&|z| barlow_twins(&z[0], &z[1], &of(lambda)), &at);
    let hat = [0, 1].map(|i| standardized(&at[i]));
    let eye = identity(d);
    let c = hat[0].matmul_with(&hat[1], Transpose::LEFT).mul_scalar(1.0 / n as f64);
    let dc = &(&c - &eye).mul_scalar(2.0) * &eye.mul_scalar(1.0 - lambda).add_scalar(lambda);
    let dhat =
        [hat[1].matmul_with(&dc, Transpose::RIGHT), hat[0].matmul(&dc)].map(|g| g.mul_scalar(1.0 / n as f64));
    for i in [0, 1] {
        let deviation = (&at[i] - &at[i].mean(0)).square().mean(0).add_scalar(EPS).sqrt();
        let along = &hat[i] * &(&dhat[i] * &hat[i]).mean(0);
        let expected = &(&(&dhat[i] - &dhat[i].mean(0)) - &along) / &deviation;
        assert_close(&found[i], &expected, 1e-12);
    }
}

#[test]
fn gradients_match_differences_and_order_and_swap_are_free() {
    let at = [normal(3, 5, 3), normal(4, 5, 3)];
    let loss = |z: &[Tensor]| barlow_twins(&z[0], &z[1], &of(0.2));
    assert_differences(&loss, &at);
    assert_order_is_free(&loss, &at);
    let swapped = barlow_twins(&at[1], &at[0], &of(0.2)).item();
    assert!((swapped - loss(&at).item()).abs() < 1e-12);
    // A positive scale of each dimension changes nothing but the part of ε, here 1e-11 of a variance.
    let [large, larger] = [[1e3, 1e3, 1e3], [1e5, 3e3, 7e3]]
        .map(|scale| barlow_twins(&(&at[0] * &Tensor::new(&cpu(), [1, 3], &scale)), &at[1], &of(0.2)).item());
    assert!((larger - large).abs() < 1e-9, "{large} {larger}");
}

#[test]
fn constant_embeddings_cost_their_dimension() {
    let same = Tensor::full(&cpu(), [4, 3], DType::F64, 0.7);
    let found = gradients(&|z| barlow_twins(&z[0], &z[1], &of(0.005)), &[same.clone(), same.clone()]);
    assert!((barlow_twins(&same, &same, &of(0.005)).item() - 3.0).abs() < 1e-12);
    assert!(found.iter().all(|g| g.to_vec::<f64>().iter().all(|g| g.is_finite())));
}
