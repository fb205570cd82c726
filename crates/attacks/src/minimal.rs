//! What attacks that look for the nearest mistake have in common.

use crate::ball::Ball;
use crate::classifier::verdicts;
use crate::outcome::Verdict;
use crate::problem::{Evaluation, Visit};
use std::cell::RefCell;
use tarrl_tensor::Tensor;

/// A classifier and the labels `(n)` of the samples it is attacked on.
#[derive(Clone, Copy)]
pub struct Classifier<'a> {
    /// `(m, …)` to `(m, k)`.
    pub logits: &'a dyn Fn(&Tensor) -> Tensor,
    /// `(n)`: the classes the attacker wants to be left.
    pub labels: &'a [u32],
}

/// Points as the model saw them last, for gradients that are not those of a value.
pub(crate) struct Glimpse {
    pub(crate) point: Tensor,
    pub(crate) logits: Tensor,
}

/// The value of a misclassified point is its negative distance from the center, of others minus infinity; a
/// success is misclassified and in the ball. The logits are left in `last`.
pub(crate) fn nearest_mistake<'a>(
    classifier: Classifier<'a>,
    ball: &'a Ball,
    last: &'a RefCell<Option<Glimpse>>,
) -> impl Fn(&Tensor, Visit<'_>) -> Evaluation + 'a {
    move |u, visit| {
        let z = (classifier.logits)(u);
        let labels: Vec<u32> = visit.rows.iter().map(|&row| classifier.labels[row]).collect();
        let balls = ball.keep(visit.rows);
        let seen = verdicts(&z, &labels);
        let distances = balls.distances(u).into_iter().zip(&seen);
        let value: Vec<f64> =
            distances.map(|(d, v)| if v.success { -d } else { f64::NEG_INFINITY }).collect();
        let verdict = seen.iter().zip(balls.contains(u)).map(|(v, inside)| match (v.success, inside) {
            // A mistake out of reach is no success: its margin may not be below zero.
            (true, false) => Verdict { success: false, margin: v.margin.max(0.0) },
            _ => *v,
        });
        let verdict = verdict.collect();
        *last.borrow_mut() = Some(Glimpse { point: u.clone(), logits: z });
        Evaluation { value: Tensor::new(u.device(), [visit.rows.len()], &value), verdict: Some(verdict) }
    }
}

/// Whether values of [`nearest_mistake`] are those of misclassified points.
pub(crate) fn is_mistake(value: f64) -> bool {
    value > f64::NEG_INFINITY
}
