//! FARE: attacked images keep the representations that a frozen encoder gives to clean ones (Schlarmann et al. 2024).

use crate::rows;
use tarrl_tensor::Tensor;

/// `mean ‖a − b‖²` of rows `(n, d)`, both of which receive gradient: a scalar.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn squared_distance(a: &Tensor, b: &Tensor) -> Tensor {
    rows::pair("squared_distance", a, b);
    (a - b).square().sum(1).mean_all()
}

/// The loss of FARE with a factor for clean images, `‖f(x') − T(x)‖² + w ‖f(x) − T(x)‖²`: a scalar.
///
/// `[clean, adversarial]` are the student's representations `(n, d)` of an image and of its attacked neighbor, both
/// of which receive gradient; `teacher` `(n, d)` is a constant here. w is `weight`, 0 in the paper.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn fare([clean, adversarial]: [&Tensor; 2], teacher: &Tensor, weight: f64) -> Tensor {
    let teacher = teacher.detach();
    &squared_distance(adversarial, &teacher) + &squared_distance(clean, &teacher).mul_scalar(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{cpu, grad};

    /// Rows (1, 0), (0, 2) against (0, 0), (0, 0): (1 + 4) / 2; attacked rows (3, 0), (0, 0): 9 / 2.
    #[test]
    fn the_loss_and_its_gradients_are_those_by_hand() {
        let of = |values: [f64; 4]| Tensor::new(&cpu(), [2, 2], &values).requires_grad();
        let (clean, adversarial) = (of([1.0, 0.0, 0.0, 2.0]), of([3.0, 0.0, 0.0, 0.0]));
        let teacher = of([0.0; 4]);
        let loss = fare([&clean, &adversarial], &teacher, 0.5);
        assert_eq!(loss.item(), 4.5 + 0.5 * 2.5);
        let gradients = grad(&loss, &[&clean, &adversarial, &teacher]);
        let found: Vec<Vec<f64>> = gradients.iter().map(|g| g.to_vec::<f64>()).collect();
        // 2 / n times the difference, n = 2; the teacher is a constant.
        assert_eq!(found, [vec![0.5, 0.0, 0.0, 1.0], vec![3.0, 0.0, 0.0, 0.0], vec![0.0; 4]]);
    }

    #[test]
    #[should_panic(expected = "squared_distance")]
    fn shapes_that_differ_are_a_bug() {
        let of = |n: usize| Tensor::new(&cpu(), [n, 2], &vec![0.0f64; 2 * n]);
        squared_distance(&of(2), &of(3));
    }
}
