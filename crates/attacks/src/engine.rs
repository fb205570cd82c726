//! The loop that every gradient attack is.

use crate::ball::{Ball, row_index};
use crate::outcome::Outcome;
use crate::pgd::{Pgd, Start};
use crate::threat::Threat;
use tarrl_tensor::{Key, Tensor, grad};

/// What an attack asks about points: the points `(m, …)` and which rows of the batch they belong to.
pub type Evaluate<'a> = dyn Fn(&Tensor, &[usize]) -> Evaluation + 'a;

/// The answer.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// `(m)`: what is ascended, each element a function of its own point alone.
    pub value: Tensor,
    /// `(m)`: how near each point is to success, if there is such a thing.
    pub verdict: Option<Vec<Verdict>>,
}

/// Whether a point is what the attacker wants, and how far it is from that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Whether the attack has succeeded.
    pub success: bool,
    /// Below zero only on success; the smaller, the better for the attacker.
    pub margin: f64,
}

impl Verdict {
    pub(crate) const UNSEEN: Verdict = Verdict { success: false, margin: f64::INFINITY };

    pub(crate) fn is_nearer_than(&self, other: &Verdict) -> bool {
        match (self.success, other.success) {
            (true, false) => true,
            (false, true) => false,
            _ => self.margin < other.margin,
        }
    }
}

/// Projected gradient ascent of `evaluate` around each sample of `x` `(n, …)`, with one key per sample.
///
/// The first restart begins where `config.start` says, the others at random points. Each takes
/// `config.steps` steps; the last point is evaluated without a backward pass. With
/// `config.early_stop`, a sample leaves the batch, and all restarts, at its first success: it is
/// evaluated no more. (The batch in which it leaves carries its row through one backward pass that
/// nobody uses; it is not counted.)
///
/// A gradient that is not finite counts as zero, a NaN value as minus infinity; both are flagged.
/// Points are compared by strict improvement, so that the first of equals is kept.
///
/// # Panics
/// If there are not as many keys as samples, the configuration is senseless, `x` leaves the box
/// ([`Threat::around`]), or `evaluate` answers in another shape than `(m)`.
#[track_caller]
pub fn ascend(x: &Tensor, evaluate: &Evaluate<'_>, threat: &Threat, config: &Pgd, keys: &[Key]) -> Outcome {
    config.check();
    let ball = threat.around(x);
    let n = ball.center().shape()[0];
    assert_eq!(keys.len(), n, "attack: {} keys for {n} samples", keys.len());
    let mut search =
        Search { evaluate, config, keys, outcome: Outcome::new(ball.center()), rows: (0..n).collect(), ball };
    if config.include_clean && config.start == Start::Random && n > 0 {
        let clean = search.ball.center().clone();
        let seen = search.look(&clean);
        let survivors = search.survivors(&seen);
        search.keep(&survivors);
    }
    for restart in 0..config.restarts {
        search.climb(restart);
    }
    search.outcome
}

/// The state of an attack: the samples that still take part.
struct Search<'a> {
    evaluate: &'a Evaluate<'a>,
    config: &'a Pgd,
    keys: &'a [Key],
    outcome: Outcome,
    /// The rows of the batch that have not finished.
    rows: Vec<usize>,
    /// Their balls.
    ball: Ball,
}

impl Search<'_> {
    fn climb(&mut self, restart: usize) {
        if self.rows.is_empty() {
            return;
        }
        let mut u = self.begin(restart);
        for _ in 0..self.config.steps {
            let point = u.tracked();
            let seen = self.look(&point);
            let survivors = self.survivors(&seen);
            if survivors.is_empty() {
                return self.keep(&survivors);
            }
            let mut gradient = grad(&seen.value.sum_all(), &[&point]).remove(0);
            if survivors.len() < self.rows.len() {
                let index = row_index(&u, &survivors);
                (u, gradient) = (u.gather(0, &index), gradient.gather(0, &index));
                self.keep(&survivors);
            }
            let gradient = self.checked(gradient);
            u = self.ball.project(&self.ball.step(&u, &gradient, self.config.step_size));
        }
        let seen = self.look(&u);
        let survivors = self.survivors(&seen);
        self.keep(&survivors);
    }

    fn begin(&self, restart: usize) -> Tensor {
        if restart == 0 && self.config.start == Start::Clean {
            return self.ball.center().clone();
        }
        let key = |&row: &usize| self.keys[row].fold("restart").fold(restart);
        self.ball.start(&self.rows.iter().map(key).collect::<Vec<_>>())
    }

    fn look(&mut self, u: &Tensor) -> Evaluation {
        let seen = (self.evaluate)(u, &self.rows);
        let m = self.rows.len();
        assert!(
            seen.value.shape()[..] == [m] && seen.verdict.as_ref().is_none_or(|v| v.len() == m),
            "attack: an evaluation of {m} points returned values of shape {:?}, not ({m})",
            seen.value.shape()
        );
        self.outcome.note(u, &seen, &self.rows);
        seen
    }

    /// The positions, among the points just seen, of the samples that go on.
    fn survivors(&self, seen: &Evaluation) -> Vec<usize> {
        let done = |i: usize| self.config.early_stop && seen.verdict.as_ref().is_some_and(|v| v[i].success);
        (0..self.rows.len()).filter(|&i| !done(i)).collect()
    }

    fn keep(&mut self, positions: &[usize]) {
        if positions.len() < self.rows.len() {
            self.rows = positions.iter().map(|&i| self.rows[i]).collect();
            if !positions.is_empty() {
                self.ball = self.ball.keep(positions);
            }
        }
    }

    /// The gradient with rows that are not finite set to zero; counts and flags.
    fn checked(&mut self, gradient: Tensor) -> Tensor {
        let shape = *gradient.shape();
        let flat = gradient.reshape([shape[0], shape.len() / shape[0]]);
        let sizes = flat.abs().sum(1).array().to_f64();
        for (&row, size) in self.rows.iter().zip(&sizes) {
            self.outcome.backward[row] += 1;
            self.outcome.flags[row].zero_gradient |= *size == 0.0;
            self.outcome.flags[row].bad_gradient |= !size.is_finite();
        }
        if sizes.iter().all(|size| size.is_finite()) {
            return gradient;
        }
        let good: Vec<f64> = sizes.iter().map(|size| f64::from(u8::from(size.is_finite()))).collect();
        let good = Tensor::new(flat.device(), [shape[0], 1], &good).cast(flat.dtype());
        let good = good.broadcast_to(*flat.shape());
        good.select(&flat, &flat.zeros_like()).reshape(shape)
    }
}
