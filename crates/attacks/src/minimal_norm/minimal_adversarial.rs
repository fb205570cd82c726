//! Minimal-norm adversarial examples: the problem that DeepFool, Carlini-Wagner and HopSkipJump share.

use crate::classifier::verdicts;
use crate::driver::{AttackStatus, Evaluation, Limits, Problem, Query};
use crate::threat::Ball;
use std::cell::RefCell;
use tarrl_tensor::{Key, Tensor};

/// A classifier and the labels `(n)` of the samples it is attacked on.
#[derive(Clone, Copy)]
pub struct Classifier<'a> {
    /// `(m, …)` to `(m, k)`.
    pub logits: &'a dyn Fn(&Tensor) -> Tensor,
    /// `(n)`: the true classes.
    pub labels: &'a [u32],
}

/// The nearest mistakes of a classifier around inputs, as a problem: see [`Classifier::nearest`].
pub struct MinimalAdversarial<'a> {
    pub(crate) classifier: Classifier<'a>,
    pub(crate) problem: Problem<'a>,
    pub(crate) last: &'a RefCell<Option<LastEvaluation>>,
}

impl<'a> Classifier<'a> {
    /// Hands the problem of the nearest mistakes around the centers of `ball` to an attack that is run step by step,
    /// with one key for each sample: [`CarliniWagnerRun`](crate::CarliniWagnerRun),
    /// [`DeepFoolRun`](crate::DeepFoolRun), [`HopSkipJumpRun`](crate::HopSkipJumpRun).
    ///
    /// ```
    /// use tarrl_attacks::{Classifier, DeepFool, DeepFoolRun, Limits, Threat};
    /// use tarrl_tensor::{Key, Tensor, cpu};
    ///
    /// let x = Tensor::new(&cpu(), [1, 2], &[0.75f32, 0.25]); // (n, d)
    /// let logits = |u: &Tensor| u.clone(); // the larger coordinate wins
    /// let target = Classifier { logits: &logits, labels: &[0] };
    /// let found = target.nearest(&Threat::l2(1.0).around(&x), &[Key::new(0)], Limits::default(), |nearest| {
    ///     let mut run = DeepFoolRun::new(DeepFool::default(), nearest);
    ///     while run.step() {
    ///         let _to_be_stored = run.state();
    ///     }
    ///     run.finish()
    /// });
    /// assert!((found.distances()[0] - 0.5 / 2f64.sqrt()).abs() < 0.01);
    /// ```
    ///
    /// # Panics
    /// If there are not as many labels and keys as samples.
    #[track_caller]
    pub fn nearest<R>(
        self,
        ball: &Ball,
        keys: &[Key],
        limits: Limits,
        attack: impl FnOnce(&MinimalAdversarial<'_>) -> R,
    ) -> R {
        let (labels, n) = (self.labels.len(), ball.len());
        assert_eq!(labels, n, "nearest mistake: {labels} labels for {n} samples");
        let last = RefCell::new(None);
        let evaluate = minimal_adversarial(self, ball, &last);
        let problem = Problem::new(ball.clone(), &evaluate, keys, limits);
        attack(&MinimalAdversarial { classifier: self, problem, last: &last })
    }
}

/// The points and logits of the last evaluation, for gradients that are not those of a value.
pub(crate) struct LastEvaluation {
    pub(crate) point: Tensor,
    pub(crate) logits: Tensor,
}

/// The value of a misclassified point is its negative distance from the center, of others minus infinity; a
/// success is misclassified and in the ball. The logits are left in `last`.
fn minimal_adversarial<'a>(
    classifier: Classifier<'a>,
    ball: &'a Ball,
    last: &'a RefCell<Option<LastEvaluation>>,
) -> impl Fn(&Tensor, Query<'_>) -> Evaluation + 'a {
    // The active samples change seldom.
    let kept = RefCell::new(((0..ball.len()).collect::<Vec<usize>>(), ball.clone()));
    move |u, query| {
        let z = (classifier.logits)(u);
        let labels: Vec<u32> = query.rows.iter().map(|&row| classifier.labels[row]).collect();
        let mut kept = kept.borrow_mut();
        if kept.0 != query.rows {
            *kept = (query.rows.to_vec(), ball.keep(query.rows));
        }
        let balls = &kept.1;
        let seen = verdicts(&z, &labels);
        let distances = balls.distances(u).into_iter().zip(&seen);
        let value: Vec<f64> =
            distances.map(|(d, v)| if v.success { -d } else { f64::NEG_INFINITY }).collect();
        let verdict = seen.iter().zip(balls.contains(u)).map(|(v, inside)| match (v.success, inside) {
            // A mistake out of reach is no success: its margin may not be below zero.
            (true, false) => AttackStatus { success: false, margin: v.margin.max(0.0) },
            _ => *v,
        });
        let verdict = verdict.collect();
        *last.borrow_mut() = Some(LastEvaluation { point: u.clone(), logits: z });
        Evaluation { value: Tensor::new(u.device(), [query.rows.len()], &value), verdict: Some(verdict) }
    }
}

/// Whether values of [`minimal_adversarial`] are those of misclassified points.
pub(crate) fn is_mistake(value: f64) -> bool {
    value > f64::NEG_INFINITY
}
