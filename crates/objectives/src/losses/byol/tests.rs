use super::*;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_golden_gradient, assert_order_is_free,
    golden_views, gradients, normal, through_unit,
};
use crate::{deacl, negative_cosine, simsiam};

#[test]
fn values_and_gradient_match_golden_values() {
    let at = golden_views();
    let cosines = rows::cosines(&at[0], &at[1]).to_vec::<f64>();
    for (found, golden) in cosines.iter().zip([0.894427191, 0.866025404, 0.956182887, 0.881917104]) {
        assert!((found - golden).abs() < 1e-9, "{cosines:?}");
    }
    assert_golden(&|z| byol(&z[0], &z[1]), &at, 0.200723707);
    assert_golden(&|z| simsiam(&z[0], &z[1]), &at, -0.899638146);
    let row = [-0.059628479, 0.029814240, -0.074535599];
    assert_golden_gradient(&|z| byol(&z[0], &z[1]), &at, &row, Some(0.253089377));
}

/// `−c (k̂ − cos·p̂)/(n‖p‖)`, c = 2 for BYOL and 1 for SimSiam; nothing reaches the target.
#[test]
fn gradients_match_the_closed_form_and_stop_at_the_target() {
    let at = [normal(1, 5, 4), normal(2, 5, 4)];
    let target = at[1].l2_normalize(0.0);
    for (c, loss) in [(2.0, byol as fn(&Tensor, &Tensor) -> Tensor), (1.0, simsiam)] {
        let found = gradients(&|z| loss(&z[0], &z[1]), &at);
        assert_close(&found[0], &through_unit(&target, &at[0]).mul_scalar(-c / 5.0), 1e-14);
        assert!(found[1].to_vec::<f64>().iter().all(|&g| g == 0.0));
    }
}

#[test]
fn deacl_has_gradients_in_the_student_and_none_in_the_teacher() {
    let at = [normal(1, 4, 3), normal(2, 4, 3), normal(3, 4, 3)];
    assert_differences(&|z| negative_cosine(&z[0], &z[1]), &at[..2]);
    let loss = |z: &[Tensor]| deacl([&z[0], &z[1]], &at[2], 2.0);
    assert_differences(&loss, &at[..2]);
    let teacher = gradients(&|z| deacl([&at[0], &at[1]], &z[0], 2.0), &at[2..]);
    assert!(teacher[0].to_vec::<f64>().iter().all(|&g| g == 0.0));
    let by_parts = negative_cosine(&at[0], &at[2]).item() + 2.0 * negative_cosine(&at[1], &at[0]).item();
    assert!((loss(&at).item() - by_parts).abs() < 1e-14);
}

#[test]
fn losses_have_their_extremes_and_the_order_of_rows_is_free() {
    let at = [normal(1, 6, 3), normal(2, 6, 3)];
    assert_order_is_free(&|z| byol(&z[0], &z[1]), &at);
    assert_order_is_free(&|z| simsiam(&z[0], &z[1]), &at);
    assert_order_is_free(&|z| deacl([&z[0], &z[1]], &z[1], 2.0), &at);
    let z = &at[0];
    // Equal directions of any lengths, then opposite ones.
    assert!(byol(z, &z.mul_scalar(3.0)).item().abs() < 1e-14);
    assert!((byol(z, &z.mul_scalar(-0.1)).item() - 4.0).abs() < 1e-14);
    assert!((simsiam(z, z).item() + 1.0).abs() < 1e-14);
}

#[test]
#[should_panic(expected = "byol: views of shapes (4, 3) and (5, 3)")]
fn views_of_different_shapes_panic() {
    byol(&normal(1, 4, 3), &normal(1, 5, 3));
}
