use super::*;
use crate::testing::{
    assert_close, assert_differences, assert_golden, assert_order_is_free, gradients, normal,
};
use tarrl_tensor::cpu;

fn logits(values: [f64; 6]) -> Tensor {
    Tensor::new(&cpu(), [2, 3], &values)
}

fn students() -> [Tensor; 2] {
    [logits([0.2, -0.1, 0.4, 0.0, 0.3, -0.2]), logits([0.1, 0.2, 0.3, 0.5, -0.4, 0.0])]
}

fn teachers() -> [Tensor; 2] {
    [logits([0.3, 0.0, 0.1, -0.1, 0.2, 0.0]), logits([0.2, 0.1, 0.2, 0.4, -0.3, 0.1])]
}

fn center(values: &[f64]) -> Center {
    Center { value: Tensor::new(&cpu(), [values.len()], values) }
}

fn loss(student: &[Tensor], center: &Center) -> Tensor {
    let targets = teachers().map(|t| center.targets(&t, 0.04));
    let targets: Vec<Tensor> = targets.iter().map(|t| t.cast(student[0].dtype())).collect();
    dino(&student.iter().collect::<Vec<_>>(), &targets.iter().collect::<Vec<_>>(), 0.1)
}

#[test]
fn values_and_gradient_match_golden_values() {
    let mut center = center(&[0.0; 3]);
    assert_golden(&|s| loss(s, &center), &students(), 3.928862916);
    let found = gradients(&|s| loss(s, &center), &students()).remove(0);
    let golden = [-0.904470336, -0.083811680, 0.988282016, -2.380809449, 2.366247744, 0.014561706];
    assert_close(&found, &logits(golden), 1e-9);

    let teachers = teachers();
    center.update(&[&teachers[0], &teachers[1]], 0.9);
    assert_close(center.value(), &Tensor::new(&cpu(), [3], &[0.02, 0.0, 0.01]), 1e-15);
    assert_golden(&|s| loss(s, &center), &students(), 3.917032956);
}

/// `(softmax(s/τ) − q)/(τ n terms)`, summed over the targets that a student meets.
#[test]
fn gradients_match_the_closed_form() {
    let (n, k) = (4, 5);
    let students = [normal(1, n, k), normal(2, n, k), normal(3, n, k)];
    let targets = [normal(4, n, k).softmax(), normal(5, n, k).softmax()];
    let loss = |s: &[Tensor]| dino(&[&s[0], &s[1], &s[2]], &[&targets[0], &targets[1]], 0.5);
    let found = gradients(&loss, &students);
    for (j, met) in [vec![1], vec![0], vec![0, 1]].into_iter().enumerate() {
        let chance = students[j].mul_scalar(2.0).softmax();
        let terms = met.iter().map(|&i: &usize| &chance - &targets[i]);
        let sum = terms.reduce(|a, b| &a + &b).unwrap();
        assert_close(&found[j], &sum.mul_scalar(2.0 / (4.0 * n as f64)), 1e-13);
    }
    assert_differences(&loss, &students);
    let all: Vec<Tensor> = students.iter().chain(&targets).cloned().collect();
    assert_order_is_free(&|t| dino(&[&t[0], &t[1], &t[2]], &[&t[3], &t[4]], 0.5), &all);
    let still = gradients(&|t| dino(&[&students[0], &students[1]], &[&t[0], &t[1]], 0.5), &targets);
    assert!(still.iter().all(|g| g.to_vec::<f64>().iter().all(|&g| g == 0.0)), "targets are constants");
}

#[test]
fn uniform_outputs_cost_ln_k() {
    let same = Tensor::full(&cpu(), [2, 4096], DType::F64, 0.3);
    let target = Center { value: Tensor::full(&cpu(), [4096], DType::F64, 0.0) }.targets(&same, 0.04);
    let value = dino(&[&same, &same], &[&target, &target], 0.1).item();
    assert!((value - 4096f64.ln()).abs() < 1e-12 && (value - 8.317766).abs() < 1e-6, "{value}");
}

#[test]
fn a_center_is_restored_from_its_tensors() {
    let mut center = Center::new(&cpu(), 3);
    center.update(&[&Tensor::new(&cpu(), [1, 3], &[1.0f32, 2.0, 3.0])], 0.5);
    let stored = center.tensors().remove(0).1;
    let mut other = Center::new(&cpu(), 3);
    other.restore(&|name| (name == "center").then(|| stored.clone())).unwrap();
    assert_eq!(other.value().to_vec::<f32>(), [0.5, 1.0, 1.5]);
    assert!(
        Center::new(&cpu(), 4)
            .restore(&|_| Some(stored.clone()))
            .unwrap_err()
            .to_string()
            .contains("(3), not (4)")
    );
}

#[test]
#[should_panic(expected = "1 students and 1 targets make no pair")]
fn one_view_panics() {
    let z = normal(1, 2, 3);
    dino(&[&z], &[&z.softmax()], 0.1);
}
