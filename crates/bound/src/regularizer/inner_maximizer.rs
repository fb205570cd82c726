//! Inner maximizers: what finds or bounds the largest divergence in each ball.

use crate::divergence::Measure;
use tarrl_attacks::{
    self as attacks, Apgd, Evaluation, Limits, Outcome, Pgd, PgdRun, Query, Threat, apgd, pgd,
};
use tarrl_tensor::{Key, Tensor};

/// Finds or bounds the largest divergence in each ball: [`AttackMaximizer`], [`Jacobian`](super::Jacobian), or an
/// implementation of your own for [`Regularizer::term_with`](super::Regularizer::term_with).
///
/// An attack returns points, which are constants: the term is differentiated at them. A bound or a differentiable
/// surrogate returns values that are functions of the encoder's parameters. An attack of your own:
///
/// ```
/// use tarrl_bound::{InnerMaximizer, InnerMaximum, InnerProblem, Regularizer, RegularizerConfig, RegularizerInput};
/// use tarrl_tensor::{Key, Tensor, cpu};
///
/// /// The better of two random points.
/// struct Guess;
/// impl InnerMaximizer for Guess {
///     fn maximize(&self, problem: &InnerProblem<'_>) -> InnerMaximum {
///         let ball = problem.threat.around(problem.x);
///         let at = |name: &str| ball.start(&problem.keys.iter().map(|k| k.fold(name)).collect::<Vec<_>>());
///         let (first, second) = (at("first"), at("second"));
///         let value = |u: &Tensor| problem.objective()(u, &[0]).item();
///         let points = if value(&first) < value(&second) { second } else { first };
///         InnerMaximum::Points { points, forward: 4, backward: 0 }
///     }
/// }
///
/// let w = Tensor::new(&cpu(), [2, 2], &[1.0, 0.5, -0.5, 1.0]).requires_grad();
/// let encoder = |x: &Tensor| x.matmul(&w);
/// let x = Tensor::new(&cpu(), [1, 2], &[0.5, 0.5]);
/// let input =
///     RegularizerInput { eval_encoder: &encoder, train_encoder: &encoder, x: &x, epsilon_scale: 1.0, keys: &[Key::new(1)] };
/// let term = Regularizer::new(RegularizerConfig::default())?.term_with(&Guess, &input);
/// assert!(term.value.item() > 0.0 && term.value.tracks_grad());
/// # Ok::<(), tarrl_bound::RegularizerError>(())
/// ```
pub trait InnerMaximizer {
    /// Finds or bounds the maximum for each sample.
    fn maximize(&self, problem: &InnerProblem<'_>) -> InnerMaximum;
}

/// The inner maximization of a batch: maximize the divergence from `f(x)` over the ball around each `x`.
pub struct InnerProblem<'a> {
    /// The encoder as it is attacked, `(m, …)` to `(m, d)`: in eval mode with constant parameters, its
    /// rows independent of each other.
    pub eval_encoder: &'a dyn Fn(&Tensor) -> Tensor,
    /// The encoder in training mode, whose parameters require gradients: `(m, …)` to `(m, d)`.
    pub train_encoder: &'a dyn Fn(&Tensor) -> Tensor,
    /// The anchors `(n, …)`.
    pub x: &'a Tensor,
    /// One key per sample.
    pub keys: &'a [Key],
    /// The divergence with its control of scale.
    pub measure: Measure,
    /// The ball, of this step's radius.
    pub threat: Threat,
    /// Steps, step size and restarts of the configuration.
    pub pgd: Pgd,
    /// Whether APGD takes these steps and restarts, with step sizes of its own.
    pub adaptive: bool,
}

/// The result of an [`InnerMaximizer`], with what it cost.
#[derive(Clone, Debug)]
pub enum InnerMaximum {
    /// Points of the balls.
    Points {
        /// `(n, …)`, constants.
        points: Tensor,
        /// Forward passes spent on them, counted in rows.
        forward: u64,
        /// Backward passes spent on them, counted in rows.
        backward: u64,
    },
    /// A differentiable surrogate of the largest divergence of each sample, or a bound of it; a bound of the
    /// displacement becomes one by [`Measure::of_radius`].
    Values {
        /// `(n)`, functions of the parameters of [`InnerProblem::train_encoder`].
        values: Tensor,
        /// The clean representations `(n, d)` of [`InnerProblem::train_encoder`].
        z: Tensor,
        /// Forward passes, counted in rows.
        forward: u64,
        /// Backward passes, counted in rows, the pass from the values to the parameters included.
        backward: u64,
    },
}

/// Gradient attacks with the steps of the configuration: PGD, FGSM and APGD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttackMaximizer;

impl InnerMaximizer for AttackMaximizer {
    #[track_caller]
    fn maximize(&self, problem: &InnerProblem<'_>) -> InnerMaximum {
        let found = problem.attack();
        let total = |passes: &[u32]| passes.iter().map(|&p| u64::from(p)).sum::<u64>();
        // The attack does not count the pass that encodes the anchors.
        let forward = total(&found.forward) + found.forward.len() as u64;
        InnerMaximum::Points { points: found.best, forward, backward: total(&found.backward) }
    }
}

/// As [`AttackMaximizer`], with the first ascent from initial points that [`Regularizer::start`](super::Regularizer::start)
/// sampled before. No host value is uploaded or read, so that a device can capture the whole term as a graph. The anchors
/// must lie in the box.
#[derive(Clone, Copy, Debug)]
pub struct AttackMaximizerFrom<'a> {
    /// `(n, …)`
    pub start: &'a Tensor,
}

impl InnerMaximizer for AttackMaximizerFrom<'_> {
    /// # Panics
    /// If the configuration names APGD, which samples its points during the ascent.
    #[track_caller]
    fn maximize(&self, problem: &InnerProblem<'_>) -> InnerMaximum {
        assert!(!problem.adaptive, "AttackMaximizerFrom: APGD samples its own points; use AttackMaximizer");
        let x = problem.x.detach();
        let objective = problem.objective();
        let evaluate = |u: &Tensor, visit: Query<'_>| Evaluation::of(objective(u, visit.rows));
        let ball = problem.threat.around_known(&x);
        let attack = attacks::Problem::new(ball, &evaluate, problem.keys, Limits::default());
        let mut run = PgdRun::from(problem.pgd, &attack, self.start);
        while run.step() {}
        let [n, restarts, steps] = [problem.keys.len(), problem.pgd.restarts, problem.pgd.steps];
        let steps = (n * restarts * steps) as u64;
        // One pass for each step, one for the last point of each ascent, one that encodes the anchors.
        let forward = steps + (n * (restarts + 1)) as u64;
        InnerMaximum::Points { points: run.into_best(), forward, backward: steps }
    }
}

impl InnerProblem<'_> {
    /// The objective of an attack: points `(m, …)` and the rows of the anchors they belong to, to values `(m)`.
    /// Encodes the anchors once.
    pub fn objective(&self) -> impl Fn(&Tensor, &[usize]) -> Tensor {
        let z = (self.eval_encoder)(&self.x.detach()).detach();
        let ascent = self.measure.ascent(&z);
        move |u: &Tensor, rows: &[usize]| ascent(&(self.eval_encoder)(u), rows)
    }

    #[track_caller]
    pub(super) fn attack(&self) -> Outcome {
        let x = self.x.detach();
        let objective = self.objective();
        if !self.adaptive {
            return pgd(&x, &objective, &self.threat, &self.pgd, self.keys);
        }
        let evaluate = |u: &Tensor, visit: Query<'_>| Evaluation::of(objective(u, visit.rows));
        let attack = attacks::Problem::new(self.threat.around(&x), &evaluate, self.keys, Limits::default());
        let Pgd { steps, restarts, .. } = self.pgd;
        apgd(&attack, &Apgd { steps, restarts, ..Apgd::default() })
    }
}
