//! An attack problem: the balls, the function that evaluates points, one key per sample, the limits.

use crate::driver::accounting::Limits;
use crate::driver::outcome::AttackStatus;
use crate::threat::Ball;
use tarrl_tensor::{Key, Tensor};

/// The function under attack: of points `(m, …)`, values `(m)` and, if it judges, verdicts.
pub type Evaluate<'a> = dyn Fn(&Tensor, Query<'_>) -> Evaluation + 'a;

/// Which samples the points belong to.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// `(m)`: the rows of the batch that the points belong to.
    pub rows: &'a [usize],
    /// `(m)`: the forward passes that each of these samples has had; with the row it names a draw of a
    /// random model.
    pub passes: &'a [u32],
}

/// The values of points, and whether they are successes.
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

/// A batch under attack.
pub struct Problem<'a> {
    /// `(n)`: the balls around the inputs.
    pub ball: Ball,
    /// The function under attack, which knows the samples as rows 0 to n − 1.
    pub evaluate: &'a Evaluate<'a>,
    /// `(n)`: the randomness of each sample.
    pub keys: Vec<Key>,
    /// When samples leave.
    pub limits: Limits,
}

impl<'a> Problem<'a> {
    /// An attack on all samples of `ball`.
    ///
    /// # Panics
    /// If there are not as many keys as samples, or an evaluation costs nothing.
    #[track_caller]
    pub fn new(ball: Ball, evaluate: &'a Evaluate<'a>, keys: &[Key], limits: Limits) -> Self {
        let n = ball.len();
        assert_eq!(keys.len(), n, "attack: {} keys for {n} samples", keys.len());
        assert!(limits.cost > 0, "attack: an evaluation costs at least one pass");
        Problem { ball, evaluate, keys: keys.to_vec(), limits }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.ball.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.ball.is_empty()
    }

    /// A number that problems with other inputs, radii, keys or limits do not share, but by chance.
    /// It does not cover the function.
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
        let rows = (0..self.len()).map(|row| row as u64);
        for part in numbers.chain(limits).chain(rows).chain(self.keys.iter().map(|key| key.seed())) {
            key = key.fold(part);
        }
        let centers = self.ball.center().array().to_f64();
        centers.iter().fold(key, |key, v| key.fold(v.to_bits())).seed()
    }
}
