//! What an attack is given: points, a question about points, randomness, limits.

use crate::ball::Ball;
use crate::outcome::AttackStatus;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Tensor};

/// What an attack asks about points `(m, …)`.
pub type Evaluate<'a> = dyn Fn(&Tensor, Query<'_>) -> Evaluation + 'a;

/// Which points are asked about.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// `(m)`: the rows of the batch that the points belong to.
    pub rows: &'a [usize],
    /// `(m)`: the forward passes that each of these samples has had; with the row it names a draw of a
    /// model that is random.
    pub passes: &'a [u32],
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// `(m)`: what is ascended, each element a function of its own point alone.
    pub value: Tensor,
    /// `(m)`: how near each point is to success, if there is such a thing.
    pub verdict: Option<Vec<AttackStatus>>,
}

impl Evaluation {
    /// Values without verdicts.
    pub fn of(value: Tensor) -> Self {
        Evaluation { value, verdict: None }
    }
}

/// When a sample leaves an attack before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// At its first success, if the evaluation judges.
    pub early_stop: bool,
    /// Before its passes, forward and backward together, exceed this number; `None` for no limit. A sample
    /// takes no gradient whose step it could not look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u32>,
    /// Passes of the model in one evaluation, in each direction: the draws of a random model, else one.
    pub cost: u32,
}

/// Nobody leaves, and an evaluation is one pass.
impl Default for Limits {
    fn default() -> Self {
        Limits { early_stop: false, budget: None, cost: 1 }
    }
}

/// A batch under attack.
pub struct Problem<'a> {
    /// `(n)`: the balls around the inputs.
    pub ball: Ball,
    /// The question.
    pub evaluate: &'a Evaluate<'a>,
    /// `(n)`: the randomness of each sample.
    pub keys: Vec<Key>,
    /// When samples leave.
    pub limits: Limits,
    /// `(n)`: the rows of the batch by which `evaluate` knows the samples.
    rows: Vec<usize>,
}

impl<'a> Problem<'a> {
    /// An attack on all samples of `ball`, which `evaluate` knows as rows 0 to n − 1.
    ///
    /// # Panics
    /// If there are not as many keys as samples, or an evaluation costs nothing.
    #[track_caller]
    pub fn new(ball: Ball, evaluate: &'a Evaluate<'a>, keys: &[Key], limits: Limits) -> Self {
        let n = ball.len();
        assert_eq!(keys.len(), n, "attack: {} keys for {n} samples", keys.len());
        assert!(limits.cost > 0, "attack: an evaluation costs at least one pass");
        Problem { ball, evaluate, keys: keys.to_vec(), limits, rows: (0..n).collect() }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// `(n)`: the rows by which `evaluate` knows the samples.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// A number that problems with other inputs, radii, keys, rows or limits do not share, but by chance.
    /// It knows nothing of the question that is asked.
    pub fn fingerprint(&self) -> u64 {
        let threat = self.ball.threat();
        let (lo, hi) = self.ball.bounds();
        let mut key = Key::new(self.ball.len() as u64).fold(threat.norm.to_string().as_str());
        let limits = [
            u64::from(self.limits.early_stop),
            self.limits.budget.map_or(u64::MAX, u64::from),
            u64::from(self.limits.cost),
            threat.levels.map_or(0, u64::from),
        ];
        let numbers = self.ball.radii().iter().chain([&lo, &hi]).map(|v| v.to_bits());
        let rows = self.rows.iter().map(|&row| row as u64);
        for part in numbers.chain(limits).chain(rows).chain(self.keys.iter().map(|key| key.seed())) {
            key = key.fold(part);
        }
        let centers = self.ball.center().array().to_f64();
        centers.iter().fold(key, |key, v| key.fold(v.to_bits())).seed()
    }

    /// The samples at `positions` alone: what is left for the next of several attacks. `evaluate` knows them
    /// as before.
    pub fn keep(&self, positions: &[usize]) -> Problem<'a> {
        Problem {
            ball: self.ball.keep(positions),
            evaluate: self.evaluate,
            keys: positions.iter().map(|&i| self.keys[i]).collect(),
            limits: self.limits,
            rows: positions.iter().map(|&i| self.rows[i]).collect(),
        }
    }
}
