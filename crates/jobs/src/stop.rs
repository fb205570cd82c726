//! Stops: the time limit and the signals that end a run early, at a point from which it resumes.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Asked by running work whether it has to end.
///
/// ```
/// use tarrl_jobs::{Stop, Stopped};
///
/// let stop = Stop::default();
/// assert_eq!(stop.reason(), None);
/// stop.flag().store(true, std::sync::atomic::Ordering::Relaxed);
/// assert_eq!(stop.check(), Err(Stopped::Signal));
/// ```
#[derive(Clone, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
    /// Whether the claim of the job is still ours.
    held: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

/// Why work ended early. It is the error of a job that goes on when it runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The time limit is reached.
    TimeLimit,
    /// A signal, or whatever else set the flag.
    Signal,
    /// Another process has taken over the job, because this one showed no sign of life.
    Displaced,
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("reason", &self.reason()).finish_non_exhaustive()
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimeLimit => "the time limit is reached",
            Self::Signal => "stopped by a signal",
            Self::Displaced => "another process has taken over the job",
        })?;
        f.write_str("; what is finished is kept, run the same command again to go on")
    }
}

impl std::error::Error for Stopped {}

impl Stop {
    /// Whatever set `flag`, and at `deadline` if there is one.
    pub fn new(flag: Arc<AtomicBool>, deadline: Option<Instant>) -> Self {
        Self { flag, deadline, held: None }
    }

    /// The same for a job that is ours as long as `held` says so.
    pub(crate) fn while_held(&self, held: Arc<dyn Fn() -> bool + Send + Sync>) -> Self {
        Self { held: Some(held), ..self.clone() }
    }

    /// What a signal sets.
    pub fn flag(&self) -> &Arc<AtomicBool> {
        &self.flag
    }

    /// Why to end, if there is a reason.
    pub fn reason(&self) -> Option<Stopped> {
        if self.flag.load(Ordering::Relaxed) {
            return Some(Stopped::Signal);
        }
        if self.deadline.is_some_and(|moment| Instant::now() >= moment) {
            return Some(Stopped::TimeLimit);
        }
        self.held.as_ref().is_some_and(|held| !held()).then_some(Stopped::Displaced)
    }

    /// Why to end work that could not go on from where it is: a signal, or the loss of the claim. The time limit waits for
    /// such work, or a job that takes longer than the limit would begin again for ever.
    pub fn urgent(&self) -> Option<Stopped> {
        if self.flag.load(Ordering::Relaxed) {
            return Some(Stopped::Signal);
        }
        self.held.as_ref().is_some_and(|held| !held()).then_some(Stopped::Displaced)
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// The reason to end.
    pub fn check(&self) -> Result<(), Stopped> {
        self.reason().map_or(Ok(()), Err)
    }

    /// Leaves the job if it is urgent, from within functions that return no errors, such as the closures of
    /// attacks. It unwinds the stack without a message; [`execute`](crate::execute) takes the reason as the job's error.
    pub fn unwind(&self) {
        if let Some(reason) = self.urgent() {
            resume_unwind(Box::new(reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_before_the_time_limit_and_clones_share_the_flag() {
        let stop = Stop::new(Arc::default(), Some(Instant::now()));
        let clone = stop.clone();
        assert_eq!(clone.reason(), Some(Stopped::TimeLimit));
        assert_eq!(clone.urgent(), None, "work that cannot go on from where it is ends first");
        stop.flag().store(true, Ordering::Relaxed);
        assert_eq!(clone.reason(), Some(Stopped::Signal));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| clone.unwind())).unwrap_err();
        assert_eq!(caught.downcast_ref(), Some(&Stopped::Signal));
    }
}
