//! What is attacked: scores of points and the label of each sample, as a problem of the attack driver.

use std::cell::RefCell;
use tarrl_attacks::{AttackStatus, Ball, Evaluation, Limits, Problem, Query, verdicts};
use tarrl_tensor::{Key, Tensor};

/// Scores of points `(m, …)` of the samples at these positions: `(m, k)`, each row a function of its own point alone.
pub type Scores<'a> = dyn Fn(&Tensor, &[usize]) -> Tensor + 'a;

/// A margin of points `(m, …)` of the samples at these positions: `(m)`, below zero for what is looked for.
pub type Margin<'a> = dyn Fn(&Tensor, &[usize]) -> Tensor + 'a;

/// The points and scores of the last evaluation, for gradients.
pub(crate) struct LastEvaluation {
    pub(crate) point: Tensor,
    pub(crate) scores: Tensor,
}

/// The nearest mistakes around the centers of balls, as a problem: see [`with_scores`] and [`with_margin`].
pub struct NearestTarget<'a> {
    pub(crate) problem: Problem<'a>,
    pub(crate) labels: &'a [u32],
    pub(crate) last: &'a RefCell<Option<LastEvaluation>>,
}

/// Hands the problem of the nearest points around the centers of `ball` where another class than the label `(n)` has the
/// largest score to `attack`, with one key for each sample.
///
/// The radii of the balls say what counts as a success, at which `limits.early_stop` ends the search of a sample; the
/// search itself goes on within the box.
///
/// # Panics
/// If there are not as many labels and keys as samples.
#[track_caller]
pub fn with_scores<R>(
    scores: &Scores<'_>,
    labels: &[u32],
    ball: &Ball,
    keys: &[Key],
    limits: Limits,
    attack: impl FnOnce(&NearestTarget<'_>) -> R,
) -> R {
    let n = ball.len();
    assert_eq!(labels.len(), n, "nearest mistake: {} labels for {n} samples", labels.len());
    let last = RefCell::new(None);
    // The active samples change seldom.
    let kept = RefCell::new(((0..n).collect::<Vec<usize>>(), ball.clone()));
    let evaluate = |u: &Tensor, query: Query<'_>| {
        let z = scores(u, query.rows);
        let own: Vec<u32> = query.rows.iter().map(|&row| labels[row]).collect();
        let mut kept = kept.borrow_mut();
        if kept.0 != query.rows {
            *kept = (query.rows.to_vec(), ball.keep(query.rows));
        }
        let seen = verdicts(&z, &own);
        let distances = kept.1.distances(u);
        // The value of a mistake is its negative distance, of other points minus infinity.
        let value = distances.iter().zip(&seen).map(|(d, v)| if v.success { -d } else { f64::NEG_INFINITY });
        let value: Vec<f64> = value.collect();
        let verdict = seen.iter().zip(kept.1.contains(u)).map(|(v, inside)| match (v.success, inside) {
            // A mistake out of reach is no success: its margin may not be below zero.
            (true, false) => AttackStatus { success: false, margin: v.margin.max(0.0) },
            _ => *v,
        });
        let verdict = verdict.collect();
        *last.borrow_mut() = Some(LastEvaluation { point: u.clone(), scores: z });
        Evaluation { value: Tensor::new(u.device(), [query.rows.len()], &value), verdict: Some(verdict) }
    };
    let problem = Problem::new(ball.clone(), &evaluate, keys, limits);
    attack(&NearestTarget { problem, labels, last: &last })
}

/// The same for the nearest points where a margin is below zero: of any function, without labels.
///
/// The smallest perturbation that moves a representation by a share of its spread has the margin
/// `threshold − divergence(f(x), f(u))`:
///
/// ```
/// use tarrl_attacks::{Limits, Norm, Threat};
/// use tarrl_nearest::{Nearest, NearestRun, with_margin};
/// use tarrl_tensor::{Key, Tensor, cpu};
///
/// let x = Tensor::new(&cpu(), [1, 2], &[0.5f32, 0.5]); // (n, d)
/// let encode = |u: &Tensor| u.matmul(&Tensor::new(&cpu(), [2, 1], &[3.0f32, 4.0]));
/// let clean = encode(&x);
/// let margin = |u: &Tensor, rows: &[usize]| {
///     let own: Vec<Tensor> = rows.iter().map(|&row| clean.slice(0, row, 1)).collect();
///     let own = Tensor::concat(&own.iter().collect::<Vec<_>>(), 0);
///     (&encode(u) - &own).square().sum(1).reshape([rows.len()]).neg().add_scalar(0.25)
/// };
/// let ball = Threat::l2(1.0).around(&x);
/// let found = with_margin(&margin, &ball, &[Key::new(0)], Limits::default(), |target| {
///     NearestRun::new(Nearest::ensemble(Norm::L2), target).run()
/// });
/// assert!((found.distance[0] - 0.1).abs() < 1e-4); // |3 δ₁ + 4 δ₂| = 0.5 at the length 0.5 / 5
/// ```
///
/// # Panics
/// If there are not as many keys as samples.
#[track_caller]
pub fn with_margin<R>(
    margin: &Margin<'_>,
    ball: &Ball,
    keys: &[Key],
    limits: Limits,
    attack: impl FnOnce(&NearestTarget<'_>) -> R,
) -> R {
    let scores = |u: &Tensor, rows: &[usize]| {
        let margin = margin(u, rows).reshape([rows.len(), 1]);
        Tensor::concat(&[&margin, &margin.zeros_like()], 1)
    };
    with_scores(&scores, &vec![0; ball.len()], ball, keys, limits, attack)
}
