use super::*;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_order_is_free, gradients, normal,
};
use tarrl_tensor::{DType, cpu};

fn scores() -> [Tensor; 2] {
    let p1 = [0.9, 0.1, -0.2, 0.8, 0.3, 0.0, 0.1, 0.7, 0.2, 0.7, 0.2, 0.1];
    let p2 = [0.7, 0.2, -0.1, 0.6, 0.5, 0.1, 0.0, 0.8, 0.3, 0.5, 0.1, 0.4];
    [p1, p2].map(|p: [f64; 12]| Tensor::new(&cpu(), [4, 3], &p))
}

fn whole(p: &[Tensor]) -> Tensor {
    let codes = [0, 1].map(|i| sinkhorn(&p[i], 0.05, 3));
    swav([&p[0], &p[1]], [&codes[0], &codes[1]], 0.1)
}

#[test]
fn codes_and_loss_match_golden_values() {
    let codes = sinkhorn(&scores()[0], 0.05, 3).to_vec::<f64>();
    let golden = [
        (0, [0.999259484, 0.000065868, 0.000674648]),
        (1, [0.769842498, 0.020472180, 0.209685322]),
        (3, [0.062902077, 0.001672735, 0.935425188]),
    ];
    for (row, golden) in golden {
        for (found, golden) in codes[row * 3..].iter().zip(golden) {
            assert!((found - golden).abs() < 1e-9, "row {row}: {codes:?}");
        }
    }
    assert_golden(&whole, &scores(), 1.331738017);
}

/// `(softmax(s1/τ) − q2)/(2τn)`; the codes are constants, though they are made of scores.
#[test]
fn gradients_match_the_closed_form() {
    let at = [normal(1, 5, 4), normal(2, 5, 4)];
    let found = gradients(&whole, &at);
    let codes = [0, 1].map(|i| sinkhorn(&at[i], 0.05, 3));
    for i in [0, 1] {
        let chance = at[i].mul_scalar(10.0).softmax();
        assert_close(&found[i], &(&chance - &codes[1 - i]).mul_scalar(10.0 / 10.0), 1e-12);
    }
    assert_differences(&|p| swav([&p[0], &p[1]], [&codes[0], &codes[1]], 0.5), &at);
    assert_order_is_free(&whole, &at);
}

/// After many turns each row sums to one and each column to n/k.
#[test]
fn codes_share_the_samples_equally() {
    let codes = sinkhorn(&normal(1, 12, 4), 0.5, 200);
    assert_close(&codes.sum(1), &Tensor::full(&cpu(), [12, 1], DType::F64, 1.0), 1e-12);
    assert_close(&codes.sum(0), &Tensor::full(&cpu(), [1, 4], DType::F64, 3.0), 1e-9);
}

#[test]
fn sharp_codes_stay_finite_in_single_precision() {
    let codes = sinkhorn(&normal(1, 6, 4).l2_normalize(0.0).cast(DType::F32), 0.01, 3);
    let sums = codes.sum(1).to_vec::<f32>();
    assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-6), "{sums:?}");
}

#[test]
#[should_panic(expected = "ε is 0, not positive")]
fn an_epsilon_of_zero_is_refused() {
    sinkhorn(&normal(1, 2, 2), 0.0, 3);
}
