//! Reference mode or paper mode: which of two descriptions of an algorithm is followed.

use serde::{Deserialize, Serialize};

/// What to do where a paper and the code behind the published figures differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As AutoAttack's code: the algorithm that published figures come from.
    ///
    /// - APGD: checkpoints by whole numbers of steps, rises counted against `≤ ρ`, the first of them
    ///   against zero, no second condition at the first checkpoint.
    /// - FAB: restarts at half of ε; slopes of at most 1e-8 count as zero in l2 and l1.
    /// - Square: window sizes for 10 000 queries whatever their number; windows never touch the last row
    ///   and column.
    /// - Random models: loss and success are those of the last draw.
    #[default]
    Reference,
    /// As the papers.
    ///
    /// - APGD: the list of checkpoints of the paper, rises counted against `< ρ`, all of them.
    /// - FAB: restarts at half of the distance found so far, at most ε; slopes are scaled first.
    /// - Square: the schedule is scaled to the number of queries, windows reach every pixel, a
    ///   proposal that changes nothing is resampled.
    /// - Random models: the mean loss of all draws, and success in most of them.
    Paper,
}
