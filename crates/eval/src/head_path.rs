//! Regularization path: the same head at several weights of its squared norm.

use crate::fit_error::{FitError, check_finite, check_weights};
use crate::lbfgs::Lbfgs;
use crate::logistic::Logistic;
use crate::probe::check;
use crate::standardize::Standardizer;
use tarrl_bound::LinearHead;
use tarrl_tensor::Tensor;

/// The heads that minimize `mean cross-entropy + l2/2 · ‖W‖²` on standardized features `(n, d)` with `labels (n)`, one for
/// each weight of `l2`, which fall. Each fit starts from the one before; the problem is convex, so that the start decides
/// about time alone.
///
/// # Errors
/// If there are fewer than two classes, a feature is not finite, or a weight is not finite or not positive.
///
/// # Panics
/// If the shapes do not fit, a label is not below `classes`, or the weights do not fall.
#[track_caller]
pub fn head_path(
    features: &Tensor,
    labels: &[u32],
    classes: usize,
    l2: &[f64],
    solver: &Lbfgs,
) -> Result<Vec<LinearHead>, FitError> {
    check(features, labels, classes);
    assert!(l2.is_sorted_by(|a, b| a > b), "head_path: weights have to fall, not {l2:?}");
    if classes < 2 {
        return Err(FitError::Classes(classes));
    }
    check_finite(features)?;
    check_weights(l2, false)?;
    let d = features.shape()[1];
    let standard = Standardizer::of(features);
    let objective = Logistic::new(standard.design(features), labels, classes);
    let mut theta = vec![0.0; (d + 1) * classes];
    let mut heads = Vec::new();
    for &l2 in l2 {
        theta = objective.minimize(l2, theta, solver).point;
        let (weight, bias) = standard.fold(&theta);
        heads.push(LinearHead::new(classes, d, weight, bias));
    }
    Ok(heads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;
    use crate::{ProbeConfig, linear_probe};
    use tarrl_tensor::Key;

    #[test]
    fn each_head_of_a_path_is_the_one_that_is_fitted_alone() {
        let toy = Toy::new(2, 120, 6, 3, 1);
        let z = toy.encode(&toy.images);
        let weights = [0.3, 0.03, 0.003];
        let path = head_path(&z, &toy.labels, 3, &weights, &Lbfgs::default()).unwrap();
        for (head, l2) in path.iter().zip(weights) {
            let config = ProbeConfig { l2: vec![l2], ..ProbeConfig::default() };
            let alone = linear_probe(&z, &toy.labels, 3, &config, Key::new(0)).unwrap().head;
            for (a, b) in head.weight().iter().zip(alone.weight()) {
                // Gradients of 1e-5 at a curvature of at least l2, on features scaled to deviation one and back.
                assert!((a - b).abs() <= 2e-5 / l2 * (1.0 + b.abs()), "l2 {l2}: {a} {b}");
            }
        }
    }

    #[test]
    fn norms_grow_as_the_regularization_gets_weaker() {
        let toy = Toy::new(3, 80, 5, 2, 1);
        let z = toy.encode(&toy.images);
        let path = head_path(&z, &toy.labels, 2, &[1.0, 0.1, 0.01], &Lbfgs::default()).unwrap();
        let norm = |head: &LinearHead| head.weight().iter().map(|w| w * w).sum::<f64>();
        assert!(path.windows(2).all(|w| norm(&w[0]) < norm(&w[1])));
    }

    #[test]
    #[should_panic(expected = "weights have to fall")]
    fn weights_that_rise_are_a_bug() {
        let toy = Toy::new(3, 8, 5, 2, 1);
        let _ = head_path(&toy.encode(&toy.images), &toy.labels, 2, &[0.1, 1.0], &Lbfgs::default());
    }
}
