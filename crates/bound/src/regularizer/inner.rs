//! The inner maximizer, and the hook for others.

use crate::divergence::Measure;
use tarrl_attacks::{
    self as attacks, Apgd, Evaluation, Limits, Outcome, Pgd, PgdRun, Query, Threat, apgd, pgd,
};
use tarrl_tensor::{Key, Tensor};

/// What finds or bounds the largest divergence in each ball: [`Attack`], [`Jacobian`](super::Jacobian), or one
/// of your own for [`Regularizer::term_with`](super::Regularizer::term_with).
///
/// An attack answers with points, which are then constants: the term is differentiated at them. A bound or a
/// surrogate answers with values that are themselves functions of the encoder's parameters. Another attack:
///
/// ```
/// use tarrl_bound::{InnerMaximizer, Maximum, Problem, Regularizer, RegularizerConfig, TermInput};
/// use tarrl_tensor::{Key, Tensor, cpu};
///
/// /// The better of two random points.
/// struct Guess;
/// impl InnerMaximizer for Guess {
///     fn maximize(&self, problem: &Problem<'_>) -> Maximum {
///         let ball = problem.threat.around(problem.x);
///         let at = |name: &str| ball.start(&problem.keys.iter().map(|k| k.fold(name)).collect::<Vec<_>>());
///         let (first, second) = (at("first"), at("second"));
///         let value = |u: &Tensor| problem.objective()(u, &[0]).item();
///         let points = if value(&first) < value(&second) { second } else { first };
///         Maximum::Points { points, forward: 4, backward: 0 }
///     }
/// }
///
/// let w = Tensor::new(&cpu(), [2, 2], &[1.0, 0.5, -0.5, 1.0]).requires_grad();
/// let encoder = |x: &Tensor| x.matmul(&w);
/// let x = Tensor::new(&cpu(), [1, 2], &[0.5, 0.5]);
/// let input =
///     TermInput { frozen: &encoder, trained: &encoder, x: &x, epsilon_scale: 1.0, keys: &[Key::new(1)] };
/// let term = Regularizer::new(RegularizerConfig::default())?.term_with(&Guess, &input);
/// assert!(term.value.item() > 0.0 && term.value.tracks_grad());
/// # Ok::<(), tarrl_bound::RegularizerError>(())
/// ```
pub trait InnerMaximizer {
    /// Finds or bounds the maximum for each sample.
    fn maximize(&self, problem: &Problem<'_>) -> Maximum;
}

/// What is to be maximized.
pub struct Problem<'a> {
    /// The encoder as it is attacked, `(m, …)` to `(m, d)`: frozen, its rows independent of each other.
    pub frozen: &'a dyn Fn(&Tensor) -> Tensor,
    /// The encoder in training, with tracked parameters.
    pub trained: &'a dyn Fn(&Tensor) -> Tensor,
    /// The anchors `(n, …)`.
    pub x: &'a Tensor,
    /// One key per sample.
    pub keys: &'a [Key],
    /// The divergence with its control of scale.
    pub measure: Measure,
    /// The ball, of this step's radius.
    pub threat: Threat,
    /// The steps that the configuration names.
    pub pgd: Pgd,
    /// Whether APGD takes that many steps and restarts, and finds their lengths by itself.
    pub adaptive: bool,
}

/// What a [`InnerMaximizer`] found.
#[derive(Clone, Debug)]
pub enum Maximum {
    /// Points of the balls.
    Points {
        /// `(n, …)`, constants.
        points: Tensor,
        /// Rows that went forward to find them.
        forward: u64,
        /// Rows that a gradient went back through to find them.
        backward: u64,
    },
    /// A differentiable stand-in for the largest divergence of each sample, or a bound of it; a bound of the
    /// displacement becomes one by [`Measure::of_radius`].
    Values {
        /// `(n)`, functions of the parameters of [`Problem::trained`].
        values: Tensor,
        /// The clean representations `(n, d)` of [`Problem::trained`].
        z: Tensor,
        /// Rows that went forward.
        forward: u64,
        /// Rows that a gradient goes back through, that of the values in the parameters included.
        backward: u64,
    },
}

/// Projected gradient ascent with the steps of the configuration, one or many: PGD, FGSM and APGD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attack;

impl InnerMaximizer for Attack {
    #[track_caller]
    fn maximize(&self, problem: &Problem<'_>) -> Maximum {
        let found = problem.attack();
        let total = |passes: &[u32]| passes.iter().map(|&p| u64::from(p)).sum::<u64>();
        // Beside what the attack counts, the reference of the displacement.
        let forward = total(&found.forward) + found.forward.len() as u64;
        Maximum::Points { points: found.best, forward, backward: total(&found.backward) }
    }
}

/// As [`Attack`], with the first ascent from points of the balls that [`Regularizer::start`](super::Regularizer::start) drew
/// before: nothing is brought from the host then and nothing read back, so that a device can capture the whole term. The
/// anchors are taken to lie in the box.
#[derive(Clone, Copy, Debug)]
pub struct AttackFrom<'a> {
    /// `(n, …)`
    pub start: &'a Tensor,
}

impl InnerMaximizer for AttackFrom<'_> {
    /// # Panics
    /// If the configuration names APGD, which draws as it goes.
    #[track_caller]
    fn maximize(&self, problem: &Problem<'_>) -> Maximum {
        assert!(!problem.adaptive, "AttackFrom: APGD draws its own points; use Attack");
        let x = problem.x.detach();
        let objective = problem.objective();
        let evaluate = |u: &Tensor, visit: Query<'_>| Evaluation::of(objective(u, visit.rows));
        let ball = problem.threat.around_known(&x);
        let attack = attacks::Problem::new(ball, &evaluate, problem.keys, Limits::default());
        let mut run = PgdRun::from(problem.pgd, &attack, self.start);
        while run.step() {}
        let [n, restarts, steps] = [problem.keys.len(), problem.pgd.restarts, problem.pgd.steps];
        let steps = (n * restarts * steps) as u64;
        // Beside the steps, the last point of each ascent and the reference of the displacement.
        let forward = steps + (n * (restarts + 1)) as u64;
        Maximum::Points { points: run.into_best(), forward, backward: steps }
    }
}

impl Problem<'_> {
    /// What an attack ascends: points `(m, …)` and the rows of the anchors they belong to, to values `(m)`.
    /// Encodes the anchors once.
    pub fn objective(&self) -> impl Fn(&Tensor, &[usize]) -> Tensor {
        let z = (self.frozen)(&self.x.detach()).detach();
        let ascent = self.measure.ascent(&z);
        move |u: &Tensor, rows: &[usize]| ascent(&(self.frozen)(u), rows)
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
