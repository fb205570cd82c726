//! Logistic regression: the regularized cross-entropy of a linear classifier and its minimum.

use crate::l2_choice::Candidate;
use crate::lbfgs::{Lbfgs, Minimum, minimize};
use tarrl_tensor::{Array, Tensor, grad};

/// The objective on a design `(n, d + 1)` whose last column is 1.
pub(crate) struct Logistic {
    design: Tensor,
    /// The design turned once, so that no gradient has to turn it again.
    turned: Tensor,
    labels: Array,
    classes: usize,
}

impl Logistic {
    /// The objective for `labels (n)`, each below `classes`.
    pub(crate) fn new(design: Tensor, labels: &[u32], classes: usize) -> Logistic {
        let labels = Array::new(design.device(), [labels.len()], labels);
        Logistic { turned: design.t(), design, labels, classes }
    }

    /// Minimizes `mean cross-entropy + l2/2 ‖W‖²` from `start`; the bias is not penalized.
    pub(crate) fn minimize(&self, l2: f64, start: Vec<f64>, solver: &Lbfgs) -> Minimum {
        minimize(&mut |theta| self.value_and_gradient(l2, theta), start, solver)
    }

    fn value_and_gradient(&self, l2: f64, theta: &[f64]) -> (f64, Vec<f64>) {
        let logits = self.design.matmul(&self.coefficients(theta)).requires_grad();
        let loss = logits.cross_entropy(&self.labels).mean_all();
        let mut gradient = self.turned.matmul(&grad(&loss, &[&logits]).remove(0)).to_vec::<f64>();
        let weights = theta.len() - self.classes;
        gradient[..weights].iter_mut().zip(theta).for_each(|(g, w)| *g += l2 * w);
        let penalty: f64 = theta[..weights].iter().map(|w| w * w).sum();
        (loss.item() + 0.5 * l2 * penalty, gradient)
    }

    /// Cross-entropy and accuracy of the coefficients `theta ((d + 1) · k)` on the design.
    pub(crate) fn judge(&self, l2: f64, theta: &[f64]) -> Candidate {
        let logits = self.design.matmul(&self.coefficients(theta));
        let loss = logits.cross_entropy(&self.labels).mean_all().item();
        let (predicted, truth) = (logits.argmax(1).to_vec::<u32>(), self.labels.to_vec::<u32>());
        let right = predicted.iter().zip(&truth).filter(|(a, b)| a == b).count();
        Candidate { l2, loss, accuracy: right as f64 / truth.len() as f64 }
    }

    fn coefficients(&self, theta: &[f64]) -> Tensor {
        Tensor::new(self.design.device(), [theta.len() / self.classes, self.classes], theta)
    }
}
