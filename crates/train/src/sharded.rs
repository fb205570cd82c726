//! A training whose batches are cut into shards: one thread for each shard of this process, all in step.

use crate::error::TrainError;
use crate::metrics::Event;
use crate::pretraining::{Finish, Pretraining};
use crate::train_config::SettingError;
use std::sync::Arc;
use tarrl_parallel::{Group, ParallelError, Shard};

impl Pretraining<'_> {
    /// Trains all shards of this process. The first of all reports events and writes the files.
    pub(crate) fn run_shards(&self, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<Finish, TrainError> {
        let shards = self.config.shards;
        let group = match &self.options.group {
            Some(group) => group.clone(),
            None => Group::alone(shards).map_err(not_begun)?,
        };
        if group.count() != shards {
            return Err(SettingError::Connected { connected: group.count(), shards }.into());
        }
        let mut results = std::thread::scope(|scope| {
            let mut all = group.shards().into_iter();
            let first = all.next().expect("a process has a shard");
            let others: Vec<_> =
                all.map(|shard| scope.spawn(move || self.run_or_end(&shard, &mut |_| {}))).collect();
            let mut results = vec![self.run_or_end(&first, on_event)];
            results.extend(others.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
            results
        });
        // What only one shard met, such as a full disk, tells more than that it ended.
        let cause = results
            .iter()
            .position(|result| matches!(result, Err(error) if !matches!(error, TrainError::Parallel { .. })));
        results.swap_remove(cause.unwrap_or(0))
    }

    /// Trains one shard; where it fails alone, all others end.
    fn run_or_end(&self, shard: &Shard, on_event: &mut dyn FnMut(&Event<'_>)) -> Result<Finish, TrainError> {
        let guard = shard.guard();
        let result = self.run_shard(Some(shard), on_event);
        if let Err(error) = &result {
            end(shard.group(), error);
        }
        drop(guard);
        result
    }
}

/// Ends all ranks because of an error of this one.
fn end(group: &Arc<Group>, error: &TrainError) {
    group.end(match error {
        TrainError::Parallel { source, .. } => source.clone(),
        other => ParallelError::Ended { rank: group.rank(), message: other.to_string(), again: false },
    });
}

fn not_begun(source: ParallelError) -> TrainError {
    TrainError::Parallel { source, step: 0, checkpoint: None }
}
