//! Losses of a prediction and its target: BYOL, SimSiam, and the cosine consistency of distilled robustness.

use crate::rows;
use tarrl_tensor::Tensor;

/// One direction of BYOL, `mean (2 − 2 cos(p, k))`: a scalar (Grill et al. 2020, equation 2).
///
/// `prediction` `(n, d)` is the predictor's output of one view; `target` `(n, d)` the momentum network's projection of
/// the other, a constant here. Rows are normalized. The loss of a step is the sum of both directions.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn byol(prediction: &Tensor, target: &Tensor) -> Tensor {
    rows::pair("byol", prediction, target);
    rows::cosines(prediction, &target.detach()).mean_all().mul_scalar(-2.0).add_scalar(2.0)
}

/// One direction of SimSiam, `mean −cos(p, z)`: a scalar (Chen & He 2021, equation 1).
///
/// `prediction` `(n, d)` is the predictor's output of one view; `target` `(n, d)` the projection of the other view by
/// the same network, a constant here: without that stop the constant network is optimal (section 4.1 there). The loss of
/// a step is the mean of both directions. At −1 within a few epochs the network has collapsed.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn simsiam(prediction: &Tensor, target: &Tensor) -> Tensor {
    rows::pair("simsiam", prediction, target);
    rows::cosines(prediction, &target.detach()).mean_all().neg()
}

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

#[cfg(test)]
mod tests;
