//! The latest metrics of a training.

use crate::metrics::{EpochRecord, Record};
use tarrl_bound::RepresentationStats;

/// The latest metrics.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) epoch: Option<EpochRecord>,
    pub(crate) loss: Option<f64>,
    /// At the end of the first epoch.
    pub(crate) first: Option<RepresentationStats>,
    /// At the end of the present one, when its last step is done.
    pub(crate) now: Representations,
}

/// Statistics of the representations of a step.
#[derive(Clone, Copy, Default)]
pub(crate) struct Representations {
    pub(crate) observation: RepresentationStats,
    pub(crate) alignment: Option<f64>,
    pub(crate) uniformity: f64,
}

impl History {
    /// The latest metrics of `records`.
    pub(crate) fn of(records: Vec<Record>) -> Self {
        let mut history = History::default();
        for record in records {
            match record {
                Record::Step(step) => history.loss = Some(step.loss),
                Record::Epoch(epoch) => {
                    history.first.get_or_insert(epoch.observation);
                    history.epoch = Some(epoch);
                }
                Record::Warning(_) => {}
            }
        }
        history
    }
}
