//! What an attack found and what it cost.

use crate::ball::row_index;
use crate::engine::{Evaluation, Verdict};
use tarrl_tensor::Tensor;

/// The result of [`ascend`](crate::ascend), row by row of the batch.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `(n, …)`: the point of the largest value seen, the clean input included if it was looked at.
    pub best: Tensor,
    /// `(n)`: the value there; minus infinity if it was never a number, and then `best` is the input.
    pub value: Vec<f64>,
    /// The points nearest to success, if the evaluation judges.
    pub closest: Option<Closest>,
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
    pub verdict: Vec<Verdict>,
}

/// Signs that an attack could not do its work on a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A gradient was exactly zero: the sample did not move in that step.
    pub zero_gradient: bool,
    /// A gradient was not finite and was taken as zero.
    pub bad_gradient: bool,
    /// A value was NaN and counted as minus infinity.
    pub nan_value: bool,
}

impl Outcome {
    pub(crate) fn new(x: &Tensor) -> Self {
        let n = x.shape()[0];
        Outcome {
            best: x.clone(),
            value: vec![f64::NEG_INFINITY; n],
            closest: None,
            forward: vec![0; n],
            backward: vec![0; n],
            flags: vec![Flags::default(); n],
        }
    }

    /// Enters an evaluation of the points `u` `(m, …)`, which are rows `rows` of the batch.
    pub(crate) fn note(&mut self, u: &Tensor, seen: &Evaluation, rows: &[usize]) {
        let mut improved = Vec::new();
        for (position, (&row, value)) in rows.iter().zip(seen.value.array().to_f64()).enumerate() {
            self.forward[row] += 1;
            self.flags[row].nan_value |= value.is_nan();
            if value > self.value[row] {
                self.value[row] = value;
                improved.push((row, position));
            }
        }
        self.best = with_rows(&self.best, u, &improved);
        let Some(verdicts) = &seen.verdict else { return };
        let n = self.value.len();
        let closest = self
            .closest
            .get_or_insert_with(|| Closest { point: self.best.clone(), verdict: vec![Verdict::UNSEEN; n] });
        let mut nearer = Vec::new();
        for (position, (&row, &verdict)) in rows.iter().zip(verdicts).enumerate() {
            if verdict.is_nearer_than(&closest.verdict[row]) {
                closest.verdict[row] = verdict;
                nearer.push((row, position));
            }
        }
        closest.point = with_rows(&closest.point, u, &nearer);
    }
}

/// `all` with row `to` replaced by row `from` of `some`, for each pair `(to, from)`.
fn with_rows(all: &Tensor, some: &Tensor, pairs: &[(usize, usize)]) -> Tensor {
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
