//! What an attack found and what it cost.

use crate::ball::row_index;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// Whether a point is what the attacker wants, and how far it is from that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttackStatus {
    /// Whether the attack has succeeded.
    pub success: bool,
    /// Below zero only on success; the smaller, the better for the attacker.
    pub margin: f64,
}

impl AttackStatus {
    /// That of a point that nobody has looked at.
    pub const UNSEEN: AttackStatus = AttackStatus { success: false, margin: f64::INFINITY };

    /// That of an attacker who wants the class that this one wants to leave.
    pub(crate) fn reversed(self) -> AttackStatus {
        AttackStatus { success: !self.success, margin: -self.margin }
    }

    /// Whether this point is the better one for the attacker: success first, then the margin.
    pub fn is_nearer_than(&self, other: &AttackStatus) -> bool {
        match (self.success, other.success) {
            (true, false) => true,
            (false, true) => false,
            _ => self.margin < other.margin,
        }
    }
}

/// What an attack, or several in a row, found; row by row of the batch.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `(n, …)`: the point of the largest value seen, the clean input included if it was looked at.
    pub best: Tensor,
    /// `(n)`: the value there; minus infinity if it was never a number, and then `best` is the input.
    pub value: Vec<f64>,
    /// The points nearest to success, if the evaluation judges.
    pub closest: Option<Closest>,
    /// `(n)`: where the first success of a sample was found.
    pub origin: Vec<Option<Origin>>,
    /// `(n)`: forward passes of each sample.
    pub forward: Vec<u32>,
    /// `(n)`: backward passes whose gradient the sample used.
    pub backward: Vec<u32>,
    /// `(n)`: what went wrong on the way.
    pub flags: Vec<Flags>,
}

/// The points of least margin.
#[derive(Clone, Debug)]
pub struct Closest {
    /// `(n, …)`: the successful point of least margin, or of the least margin seen if none succeeded.
    pub point: Tensor,
    /// `(n)`: the verdict there.
    pub verdict: Vec<AttackStatus>,
}

/// Which part of an attack broke a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The attack, such as `pgd`; `clean` if the input itself was lost.
    pub attack: String,
    /// The class it aimed at, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// The restart, from 0.
    pub restart: u32,
    /// The steps taken before the point; 0 at a start.
    pub step: u32,
}

/// Signs that an attack could not do its work on a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flags {
    /// A gradient was exactly zero: the sample did not move in that step.
    pub zero_gradient: bool,
    /// A gradient was not finite and was taken as zero.
    pub bad_gradient: bool,
    /// A value was NaN and counted as minus infinity.
    pub nan_value: bool,
    /// The budget of passes ended the attack.
    pub out_of_budget: bool,
}

impl Flags {
    /// Whether either is raised, sign by sign.
    pub fn or(self, other: Flags) -> Flags {
        Flags {
            zero_gradient: self.zero_gradient | other.zero_gradient,
            bad_gradient: self.bad_gradient | other.bad_gradient,
            nan_value: self.nan_value | other.nan_value,
            out_of_budget: self.out_of_budget | other.out_of_budget,
        }
    }
}

impl Outcome {
    /// Nothing seen yet around the inputs `x` `(n, …)`.
    pub fn new(x: &Tensor) -> Self {
        let n = x.shape()[0];
        Outcome {
            best: x.clone(),
            value: vec![f64::NEG_INFINITY; n],
            closest: None,
            origin: vec![None; n],
            forward: vec![0; n],
            backward: vec![0; n],
            flags: vec![Flags::default(); n],
        }
    }

    /// `(n)`: whether each sample is broken; all false if the evaluation does not judge.
    pub fn success(&self) -> Vec<bool> {
        match &self.closest {
            Some(closest) => closest.verdict.iter().map(|v| v.success).collect(),
            None => vec![false; self.value.len()],
        }
    }

    /// `(n)`: the distances of the nearest successes that an attack of minimal norm found, whose
    /// values are negative distances; infinity if there is none.
    pub fn distances(&self) -> Vec<f64> {
        self.value.iter().map(|value| -value).collect()
    }

    /// Enters points `u` `(m, …)` of the samples `rows`, with values `(m)` and verdicts, found where
    /// `origin` says of each row. Counts no pass.
    pub fn note(
        &mut self,
        u: &Tensor,
        (values, verdicts): (&[f64], Option<&[AttackStatus]>),
        rows: &[usize],
        origin: &dyn Fn(usize) -> Origin,
    ) {
        let mut improved = Vec::new();
        for (position, (&row, &value)) in rows.iter().zip(values).enumerate() {
            self.flags[row].nan_value |= value.is_nan();
            if value > self.value[row] {
                self.value[row] = value;
                improved.push((row, position));
            }
        }
        self.best = with_rows(&self.best, u, &improved);
        if let Some(verdicts) = verdicts {
            self.note_verdicts(u, verdicts, rows, origin);
        }
    }

    /// Enters what a further attack found on the samples at `positions`, all but its best point
    /// and value, which may be of another objective: see [`absorb_best`](Outcome::absorb_best).
    ///
    /// The first origin of a success stays; points are compared by their verdicts.
    ///
    /// # Panics
    /// If `other` has not as many rows as there are positions.
    #[track_caller]
    pub fn absorb(&mut self, other: &Outcome, positions: &[usize]) {
        let m = other.value.len();
        assert_eq!(m, positions.len(), "absorb: {m} samples at {} positions", positions.len());
        for (i, &row) in positions.iter().enumerate() {
            self.forward[row] += other.forward[i];
            self.backward[row] += other.backward[i];
            self.flags[row] = self.flags[row].or(other.flags[i]);
        }
        if let Some(closest) = &other.closest {
            let at: std::collections::HashMap<usize, usize> =
                positions.iter().enumerate().map(|(i, &row)| (row, i)).collect();
            let origin = |row: usize| other.origin[at[&row]].clone().unwrap_or_default();
            self.note_verdicts(&closest.point, &closest.verdict, positions, &origin);
        }
    }

    /// Enters the best points of a further attack on the same objective.
    pub fn absorb_best(&mut self, other: &Outcome, positions: &[usize]) {
        let better = |(i, &row): (usize, &usize)| (other.value[i] > self.value[row]).then_some((row, i));
        let improved: Vec<(usize, usize)> = positions.iter().enumerate().filter_map(better).collect();
        improved.iter().for_each(|&(row, i)| self.value[row] = other.value[i]);
        self.best = with_rows(&self.best, &other.best, &improved);
    }

    fn note_verdicts(
        &mut self,
        u: &Tensor,
        verdicts: &[AttackStatus],
        rows: &[usize],
        origin: &dyn Fn(usize) -> Origin,
    ) {
        let n = self.value.len();
        let inputs = &self.best;
        let closest = self
            .closest
            .get_or_insert_with(|| Closest { point: inputs.clone(), verdict: vec![AttackStatus::UNSEEN; n] });
        let mut nearer = Vec::new();
        for (position, (&row, &verdict)) in rows.iter().zip(verdicts).enumerate() {
            if verdict.success && self.origin[row].is_none() {
                self.origin[row] = Some(origin(row));
            }
            if verdict.is_nearer_than(&closest.verdict[row]) {
                closest.verdict[row] = verdict;
                nearer.push((row, position));
            }
        }
        closest.point = with_rows(&closest.point, u, &nearer);
    }
}

/// `all` with row `to` replaced by row `from` of `some`, for each pair `(to, from)`.
pub(crate) fn with_rows(all: &Tensor, some: &Tensor, pairs: &[(usize, usize)]) -> Tensor {
    let n = all.shape()[0];
    if pairs.is_empty() {
        return all.clone();
    }
    if pairs.len() == n && pairs.iter().all(|(to, from)| to == from) {
        return some.detach();
    }
    let mut rows: Vec<usize> = (0..n).collect();
    for &(to, from) in pairs {
        rows[to] = n + from;
    }
    Tensor::concat(&[all, &some.detach()], 0).gather(0, &row_index(all, &rows))
}
