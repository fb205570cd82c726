//! DeACL: distillation of a clean teacher with robust consistency (Zhang et al. 2022).

use crate::rows;
use tarrl_tensor::Tensor;

/// `mean −cos(a, b)` of rows `(n, d)`, both of which receive gradient: a scalar.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn negative_cosine(a: &Tensor, b: &Tensor) -> Tensor {
    rows::pair("negative_cosine", a, b);
    rows::cosines(a, b).mean_all().neg()
}

/// The loss of DeACL, `−cos(f(x), T(x)) − k·cos(f(x'), f(x))`: a scalar (Zhang et al. 2022).
///
/// `[clean, adversarial]` are the student's representations `(n, d)` of an image and of its attacked neighbor, both
/// of which receive gradient; `teacher` `(n, d)` is a constant here. k is `weight`, 2 in the paper.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn deacl([clean, adversarial]: [&Tensor; 2], teacher: &Tensor, weight: f64) -> Tensor {
    rows::pair("deacl", clean, adversarial);
    let still = negative_cosine(adversarial, clean);
    &negative_cosine(clean, &teacher.detach()) + &still.mul_scalar(weight)
}
