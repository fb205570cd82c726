//! Accounting of a sample under attack: budget, early exit, provenance, flags and counts of passes. Every attack goes
//! through it, whether its samples advance together ([`AttackDriver`](crate::AttackDriver)) or each on its own
//! ([`SuiteRun`](crate::SuiteRun)).

use crate::driver::bits;
use crate::driver::outcome::{AttackStatus, Flags, Origin};
use crate::driver::state_error::StateError;
use crate::driver::state_error::demand;
use serde::{Deserialize, Serialize};

/// More passes than a sample has had when it is resumed, so that counts do not overflow.
const MOST_PASSES: u32 = u32::MAX / 4;

/// When a sample leaves an attack before its end, and what an evaluation costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// At its first success, if the evaluation judges.
    pub early_stop: bool,
    /// Before its passes, forward and backward together, exceed this number; `None` for no limit. A sample
    /// takes no gradient whose step it could not evaluate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u32>,
    /// Passes of the model in one evaluation, in each direction: the draws of a random model, else one.
    pub cost: u32,
}

/// No sample leaves, and an evaluation is one pass.
impl Default for Limits {
    fn default() -> Self {
        Limits { early_stop: false, budget: None, cost: 1 }
    }
}

/// When a sample that has been broken leaves. The later, the more passes are spent on it; its point of least margin is
/// returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EarlyExit {
    /// At once.
    #[default]
    AtOnce,
    /// At the end of the run of APGD or FAB that broke it, and of Square at once, as in the reference.
    AfterRun,
    /// Never: it goes through all that a robust sample goes through. To measure what leaving saves.
    Never,
}

/// What decides whether a sample goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoppingRule {
    pub(crate) early_exit: EarlyExit,
    pub(crate) budget: Option<u32>,
    /// Passes of one evaluation.
    pub(crate) cost: u32,
}

impl From<Limits> for StoppingRule {
    fn from(limits: Limits) -> Self {
        let early_exit = if limits.early_stop { EarlyExit::AtOnce } else { EarlyExit::Never };
        StoppingRule { early_exit, budget: limits.budget, cost: limits.cost }
    }
}

/// What is known of one sample under attack, all but its points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SampleRecord {
    pub(crate) success: bool,
    #[serde(with = "bits")]
    pub(crate) margin: f64,
    pub(crate) origin: Option<Origin>,
    pub(crate) forward: u32,
    pub(crate) backward: u32,
    pub(crate) flags: Flags,
}

/// Nothing evaluated yet.
impl Default for SampleRecord {
    fn default() -> Self {
        let AttackStatus { success, margin } = AttackStatus::UNSEEN;
        SampleRecord { success, margin, origin: None, forward: 0, backward: 0, flags: Flags::default() }
    }
}

impl SampleRecord {
    /// The best status for the attacker so far.
    pub(crate) fn status(&self) -> AttackStatus {
        AttackStatus { success: self.success, margin: self.margin }
    }

    /// An error if the counts are beyond those of any run.
    pub(crate) fn validate(&self) -> Result<(), StateError> {
        demand(self.forward.max(self.backward) < MOST_PASSES, "passes are beyond those of any run")
    }

    /// Counts passes of the model.
    pub(crate) fn count(&mut self, forward: u32, backward: u32) {
        self.forward += forward;
        self.backward += backward;
    }

    /// Enters the status of a point; `origin` says where the attack stands. Whether the point is nearer to success than
    /// all before it.
    pub(crate) fn note_status(&mut self, status: AttackStatus, origin: impl FnOnce() -> Origin) -> bool {
        if status.success && self.origin.is_none() {
            self.origin = Some(origin());
        }
        let nearer = status.is_nearer_than(&self.status());
        if nearer {
            (self.success, self.margin) = (status.success, status.margin);
        }
        nearer
    }

    /// Flags a value that is no number.
    pub(crate) fn note_value(&mut self, value: f64) {
        self.flags.nan_value |= value.is_nan();
    }

    /// Flags a gradient that does not move the sample.
    pub(crate) fn note_gradient(&mut self, is_zero: bool, is_finite: bool) {
        self.flags.zero_gradient |= is_zero;
        self.flags.bad_gradient |= !is_finite;
    }

    /// Whether the sample leaves because it is broken; `in_run`: in the middle of a run of APGD or FAB.
    pub(crate) fn leaves(&self, rule: &StoppingRule, in_run: bool) -> bool {
        self.success
            && match rule.early_exit {
                EarlyExit::AtOnce => true,
                EarlyExit::AfterRun => !in_run,
                EarlyExit::Never => false,
            }
    }

    /// Whether so many evaluations and gradients more lie within the budget.
    pub(crate) fn affords(&self, rule: &StoppingRule, evaluations: u32) -> bool {
        let spent = self.forward + self.backward;
        rule.budget.is_none_or(|budget| spent + evaluations * rule.cost <= budget)
    }

    /// Whether the sample goes on to so many evaluations and gradients more: neither early exit nor budget ends it. A
    /// budget that ends it is flagged.
    pub(crate) fn goes_on(&mut self, rule: &StoppingRule, in_run: bool, evaluations: u32) -> bool {
        if self.leaves(rule, in_run) {
            return false;
        }
        let affords = self.affords(rule, evaluations);
        self.flags.out_of_budget |= !affords;
        affords
    }
}
