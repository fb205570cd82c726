use super::*;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_order_is_free, gradients, labels, normal,
};
use tarrl_tensor::cpu;

/// Predictions (1/4, 3/4) and (1/2, 1/2): KL = ¼ ln ½ + ¾ ln 3/2, cross-entropy of the second class −ln ¾.
#[test]
fn values_match_a_calculation_by_hand() {
    let clean = Tensor::new(&cpu(), [1, 2], &[0.0, 3f64.ln()]);
    let adversarial = Tensor::new(&cpu(), [1, 2], &[1.0f64, 1.0]);
    let kl = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
    let at = [clean, adversarial];
    assert_golden(&|z| kl_divergence(&z[0], &z[1]), &at, kl);
    assert_golden(&|z| cross_entropy(&z[0], &labels(&[1])), &at, -0.75f64.ln());
    assert_golden(&|z| trades([&z[0], &z[1]], &labels(&[1]), 6.0), &at, -0.75f64.ln() + 6.0 * kl);
}

/// In the logits of q: `(q − p)/n`; in those of p: `p (ln p/q − KL)/n` row by row.
#[test]
fn gradients_match_the_closed_form() {
    let at = [normal(1, 4, 5), normal(2, 4, 5)];
    let found = gradients(&|z| kl_divergence(&z[0], &z[1]), &at);
    let [p, q] = [0, 1].map(|i| at[i].softmax());
    assert_close(&found[1], &(&q - &p).mul_scalar(0.25), 1e-14);
    let ratio = (&p / &q).log();
    let each = (&p * &ratio).sum(1);
    assert_close(&found[0], &(&p * &(&ratio - &each)).mul_scalar(0.25), 1e-14);
}

#[test]
fn gradients_match_differences_and_the_order_of_rows_is_free() {
    let at = [normal(1, 4, 3), normal(2, 4, 3)];
    let y = labels(&[2, 0, 1, 1]);
    assert_differences(&|z| trades([&z[0], &z[1]], &y, 6.0), &at);
    assert_order_is_free(&|z| trades([&z[0], &z[1]], &labels(&[1; 4]), 6.0), &at);
    assert!(kl_divergence(&at[0], &at[1]).item() > 0.0);
    assert!(kl_divergence(&at[0], &at[0].add_scalar(3.0)).item().abs() < 1e-14);
    // Predictions as good as certain: their logarithms, not those of their zeros, are multiplied.
    let sharp = kl_divergence(&at[0].mul_scalar(1e4), &at[0]).item();
    assert!(sharp.is_finite() && sharp > 0.0, "{sharp}");
}
