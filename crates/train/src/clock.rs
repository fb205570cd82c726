//! Wall-clock time of an epoch, by activity.

use std::time::{Duration, Instant};

/// A clock that runs from the beginning of an epoch, or from where it was resumed.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    /// Finished steps then.
    step: u64,
    waiting: Duration,
    saving: Duration,
}

/// The times of an epoch, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Steps since the epoch began or was resumed.
    pub(crate) steps: u64,
    /// In all.
    pub(crate) seconds: f64,
    /// Waiting for the next batch.
    pub(crate) waiting: f64,
    /// Writing checkpoints.
    pub(crate) saving: f64,
}

impl Clock {
    /// Starts after `step` finished steps.
    pub(crate) fn new(step: u64) -> Self {
        Clock { began: Instant::now(), step, waiting: Duration::ZERO, saving: Duration::ZERO }
    }

    /// Adds the time since `moment`, in which the next batch was waited for.
    pub(crate) fn waited_since(&mut self, moment: Instant) {
        // A wait that began in the last epoch counts here from the beginning of this one.
        self.waiting += moment.max(self.began).elapsed();
    }

    /// Adds the time since `moment`, in which a checkpoint was written.
    pub(crate) fn saved_since(&mut self, moment: Instant) {
        self.saving += moment.elapsed();
    }

    /// The times after `step` finished steps.
    pub(crate) fn read(&self, step: u64) -> Times {
        let [seconds, waiting, saving] =
            [self.began.elapsed(), self.waiting, self.saving].map(|time| time.as_secs_f64());
        Times { steps: step - self.step, seconds, waiting, saving }
    }
}
