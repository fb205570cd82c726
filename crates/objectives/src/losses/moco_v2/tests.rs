use super::*;
use crate::moco_v3;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_golden_gradient, assert_order_is_free,
    golden_views, gradients, identity, normal, through_unit,
};
use tarrl_tensor::{DType, Key, cpu};

/// A queue with these rows, in the type of `like`.
fn queue(rows: &Tensor) -> Queue {
    let mut queue = Queue::new(&cpu(), Key::new(1), [rows.shape()[0], rows.shape()[1]]);
    queue.push(rows);
    queue
}

/// In f32 as a queue is; queries are cast.
fn against(query: &Tensor, key: &Tensor, queue: &Queue) -> Tensor {
    moco_v2([&query.cast(DType::F32), &key.cast(DType::F32)], queue, 0.2)
}

#[test]
fn values_and_gradient_match_golden_values() {
    let at = golden_views();
    let old = queue(&Tensor::new(&cpu(), [2, 3], &[1.0f32, 0.0, 0.0, 0.0, 1.0, 1.0]));
    let found = against(&at[0], &at[1], &old).item();
    // Logits up to 5 with roundings of 6e-8 each.
    assert!((found - 0.365719208).abs() < 2e-6, "{found}");

    assert_golden(&|z| moco_v3(&z[0], &z[1], 0.2), &at, 0.119458174);
    assert_golden(&|z| moco_v3(&z[0], &z[1], 1.0), &at, 1.822429113);
    assert_golden(&|z| &moco_v3(&z[0], &z[1], 0.2) + &moco_v3(&z[1], &z[0], 0.2), &at, 0.256579606);
    let row = [-0.032284191, 0.016142096, -0.080743615];
    assert_golden_gradient(&|z| moco_v3(&z[0], &z[1], 0.2), &at, &row, None);
}

/// With P the softmax of the logits, the unit queries have the gradient `2 (P − I) k̂/n`: no τ but in P.
#[test]
fn v3_gradients_match_the_closed_form_and_stop_at_the_keys() {
    let at = [normal(1, 5, 4), normal(2, 5, 4)];
    let found = gradients(&|z| moco_v3(&z[0], &z[1], 0.3), &at);
    let [query, key] = [0, 1].map(|i| at[i].l2_normalize(0.0));
    let chance = query.matmul_with(&key, Transpose::RIGHT).mul_scalar(1.0 / 0.3).softmax();
    let unit = (&chance - &identity(5)).matmul(&key).mul_scalar(2.0 / 5.0);
    assert_close(&found[0], &through_unit(&unit, &at[0]), 1e-13);
    assert!(found[1].to_vec::<f64>().iter().all(|&g| g == 0.0));
    assert_differences(&|z| moco_v3(&z[0], &at[1], 0.3), &at[..1]);
}

/// `(1/τn) [ (P_0 − 1) k̂ + Σ_j P_j Q_j ]` in the unit queries.
#[test]
fn v2_gradients_match_the_closed_form_and_stop_at_the_keys() {
    let at = [normal(1, 3, 4), normal(2, 3, 4)].map(|z| z.cast(DType::F32));
    let old = queue(&normal(3, 6, 4).cast(DType::F32));
    let found = gradients(&|z| moco_v2([&z[0], &z[1]], &old, 0.5), &at);
    let [query, key] = [0, 1].map(|i| at[i].cast(DType::F64).l2_normalize(0.0));
    let rows = old.rows().cast(DType::F64);
    let positive = (&query * &key).sum(1);
    let negative = query.matmul_with(&rows, Transpose::RIGHT);
    let chance = Tensor::concat(&[&positive, &negative], 1).mul_scalar(2.0).softmax();
    let pull = &key * &chance.slice(1, 0, 1).add_scalar(-1.0);
    let unit = (&pull + &chance.slice(1, 1, 6).matmul(&rows)).mul_scalar(2.0 / 3.0);
    let expected = through_unit(&unit, &at[0].cast(DType::F64));
    // Gradients of order one in f32.
    assert_close(&found[0].cast(DType::F64), &expected, 1e-6);
    assert!(found[1].to_vec::<f32>().iter().all(|&g| g == 0.0));
}

#[test]
fn the_order_of_rows_and_of_the_queue_is_free() {
    let at = [normal(1, 6, 3), normal(2, 6, 3)];
    assert_order_is_free(&|z| moco_v3(&z[0], &z[1], 0.2), &at);
    // In the queue's order too: the same keys pushed the other way round.
    let old = normal(3, 2, 3).cast(DType::F32);
    let turned = Tensor::concat(&[&old.slice(0, 1, 1), &old.slice(0, 0, 1)], 0);
    let [one, other] = [&old, &turned].map(|rows| against(&at[0], &at[1], &queue(rows)).item());
    assert!((one - other).abs() < 1e-6, "{one} {other}");
    assert_ne!(queue(&old).tensors()[0].1.to_vec::<f32>(), queue(&turned).tensors()[0].1.to_vec::<f32>());
}

/// All equal: ln n for v3 with its factor, ln(1 + K) for v2.
#[test]
fn collapsed_embeddings_have_known_losses() {
    let same = Tensor::full(&cpu(), [4, 3], DType::F32, 0.7);
    let v3 = moco_v3(&same, &same, 0.2).item();
    assert!((v3 - 0.4 * 4f64.ln()).abs() < 1e-6, "{v3}");
    let v2 = moco_v2([&same, &same], &queue(&Tensor::full(&cpu(), [7, 3], DType::F32, 0.7)), 0.2).item();
    assert!((v2 - 8f64.ln()).abs() < 1e-5, "{v2}");
}

#[test]
#[should_panic(expected = "moco_v2: queries (4, 3), queue (2, 5)")]
fn a_queue_of_another_dimension_panics() {
    let z = Tensor::full(&cpu(), [4, 3], DType::F32, 1.0);
    moco_v2([&z, &z], &Queue::new(&cpu(), Key::new(1), [2, 5]), 0.2);
}
