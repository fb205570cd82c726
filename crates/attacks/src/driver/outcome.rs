//! The outcome of an attack: points, values, provenance, passes and flags, sample by sample.

use serde::{Deserialize, Serialize};
use tarrl_tensor::Tensor;

/// Whether a point is what the attacker wants, and its margin to that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttackStatus {
    /// Whether the attack has succeeded.
    pub success: bool,
    /// Below zero only on success; the smaller, the better for the attacker.
    pub margin: f64,
}

impl AttackStatus {
    /// That of a sample of which no point has been evaluated.
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

/// What an attack found, row by row of the batch.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `(n, …)`: the point of the largest value seen, the clean input included if it was evaluated.
    pub best: Tensor,
    /// `(n)`: the value there; minus infinity if it was always NaN, and then `best` is the input.
    pub value: Vec<f64>,
    /// The points nearest to success, if the evaluation judges.
    pub closest: Option<Closest>,
    /// `(n)`: where the first success of a sample was found.
    pub origin: Vec<Option<Origin>>,
    /// `(n)`: forward passes of each sample.
    pub forward: Vec<u32>,
    /// `(n)`: backward passes whose gradient the sample used.
    pub backward: Vec<u32>,
    /// `(n)`: signs of trouble on the way.
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

/// Where an attack stands, for provenance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The name of the attack.
    pub attack: String,
    /// `(n)`: the class that each sample of the problem is to be classified as; empty if none.
    pub targets: Vec<u32>,
    /// The restart, from 0.
    pub restart: u32,
    /// Steps taken in it.
    pub step: u32,
}

impl Stage {
    /// The same of the sample at a position of the problem.
    pub(crate) fn origin(&self, row: usize) -> Origin {
        Origin {
            attack: self.attack.clone(),
            target: self.targets.get(row).copied(),
            restart: self.restart,
            step: self.step,
        }
    }
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

impl Outcome {
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
}
