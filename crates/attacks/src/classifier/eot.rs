//! Expectation over transformation (EOT): attacks on random models.

use crate::classifier::attack::verdicts;
use crate::classifier::losses::LabelLoss;
use crate::driver::{AttackStatus, Evaluation, Limits, Query};
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Tensor};

/// A random classifier: points `(m, …)` and the randomness of each to logits `(m, k)`.
pub type RandomLogits<'a> = dyn Fn(&Tensor, &[Key]) -> Tensor + 'a;

/// How many draws of a random model an evaluation takes, and how many must be misclassified (Athalye et al. 2018).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Eot {
    /// Draws of each evaluation; at least one.
    pub draws: u32,
    /// The share of them, above 0 and at most 1, that has to be misclassified for a success.
    pub share: f64,
}

/// Twenty draws, of which half have to be lost.
impl Default for Eot {
    fn default() -> Self {
        Eot { draws: 20, share: 0.5 }
    }
}

/// What fresh draws say of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confirmation {
    /// The verdict, as an attack would have it.
    pub verdict: AttackStatus,
    /// The share of the draws that is misclassified.
    pub lost: f64,
    /// The share of the draws that the verdict is not true of.
    pub flip_rate: f64,
}

impl Eot {
    /// The limits of an attack whose evaluations are of this kind: each costs as many passes as draws.
    pub fn limits(&self, limits: Limits) -> Limits {
        Limits { cost: self.draws, ..limits }
    }

    /// The function under attack of a random classifier, with labels and keys `(n)` for the whole batch: the
    /// mean of the loss over fresh draws, so that its gradient is the mean of their gradients; success where
    /// enough of them are lost.
    ///
    /// The margin is that of the draw which decides, so that it is below zero only on success. One
    /// lucky draw ends no sample; but an attack with enough evaluations wins the majority by chance
    /// too: [`confirm`](Eot::confirm) what it found.
    ///
    /// # Panics
    /// If there are no draws or the share is not in (0, 1].
    #[track_caller]
    pub fn classify<'a>(
        self,
        logits: &'a RandomLogits<'a>,
        labels: &'a [u32],
        loss: LabelLoss,
        keys: &'a [Key],
    ) -> impl Fn(&Tensor, Query<'_>) -> Evaluation + 'a {
        self.check();
        move |u, query| {
            let labels: Vec<u32> = query.rows.iter().map(|&row| labels[row]).collect();
            let draw = |draw: u32| {
                let key =
                    |(&row, &passes): (&usize, &u32)| keys[row].fold("draw").fold(u64::from(passes + draw));
                let z = logits(u, &query.rows.iter().zip(query.passes).map(key).collect::<Vec<_>>());
                (loss.of(&z, &labels), verdicts(&z, &labels))
            };
            let (mut value, first) = draw(0);
            let mut all = vec![first];
            for i in 1..self.draws {
                let (more, verdict) = draw(i);
                value = &value + &more;
                all.push(verdict);
            }
            let verdict = (0..labels.len()).map(|i| self.judge(&of_sample(&all, i))).collect();
            Evaluation { value: value.mul_scalar(1.0 / f64::from(self.draws)), verdict: Some(verdict) }
        }
    }

    /// What fresh draws, seen by no attack, say of points `u` `(n, …)`.
    ///
    /// # Panics
    /// As [`classify`](Eot::classify), and if there are not as many labels and keys as points.
    #[track_caller]
    pub fn confirm(
        &self,
        logits: &RandomLogits<'_>,
        u: &Tensor,
        labels: &[u32],
        keys: &[Key],
    ) -> Vec<Confirmation> {
        self.check();
        let n = u.shape()[0];
        assert!(
            labels.len() == n && keys.len() == n,
            "confirm: {} labels and {} keys for {n} points",
            labels.len(),
            keys.len()
        );
        let draw = |draw: u32| {
            let keys: Vec<Key> = keys.iter().map(|key| key.fold("confirm").fold(u64::from(draw))).collect();
            verdicts(&logits(u, &keys), labels)
        };
        let all: Vec<Vec<AttackStatus>> = (0..self.draws).map(draw).collect();
        (0..n).map(|i| self.conclude(&of_sample(&all, i))).collect()
    }

    /// What the draws of one sample say.
    pub(crate) fn conclude(&self, draws: &[AttackStatus]) -> Confirmation {
        let verdict = self.judge(draws);
        let lost = draws.iter().filter(|v| v.success).count() as f64 / draws.len() as f64;
        Confirmation { verdict, lost, flip_rate: if verdict.success { 1.0 - lost } else { lost } }
    }

    /// The verdict of the draw that decides: so many are at least as bad for the model.
    fn judge(&self, draws: &[AttackStatus]) -> AttackStatus {
        let mut draws = draws.to_vec();
        draws.sort_by(|a, b| b.success.cmp(&a.success).then(a.margin.total_cmp(&b.margin)));
        draws[self.needed(draws.len()) - 1]
    }

    /// The least number of `draws` that is the share of them. Quotients are compared, since a product is rounded up where
    /// it should be whole: 0.07 · 100 is more than 7, but 7 / 100 is 0.07.
    fn needed(&self, draws: usize) -> usize {
        (1..draws).find(|&lost| lost as f64 / draws as f64 >= self.share).unwrap_or(draws)
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(self.draws > 0, "EOT: no draws");
        assert!(self.share > 0.0 && self.share <= 1.0, "EOT: the share is {}", self.share);
    }
}

fn of_sample(all: &[Vec<AttackStatus>], i: usize) -> Vec<AttackStatus> {
    all.iter().map(|draw| draw[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_lost_exactly_is_a_success() {
        for draws in 1..=200u32 {
            for lost in 1..=draws {
                let eot = Eot { draws, share: f64::from(lost) / f64::from(draws) };
                assert_eq!(eot.needed(draws as usize), lost as usize, "{lost} of {draws}");
            }
        }
        assert_eq!(Eot { draws: 100, share: 0.07 }.needed(100), 7);
        assert_eq!(Eot { draws: 25, share: 0.28 }.needed(25), 7);
        assert_eq!(Eot { draws: 25, share: 0.281 }.needed(25), 8);
        assert_eq!(Eot { draws: 3, share: 1e-9 }.needed(3), 1);
    }
}
