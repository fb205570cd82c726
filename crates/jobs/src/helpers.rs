//! Helpers: processes beside this one that work on the same run, and the watch over what they finish.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::display::Ending;
use crate::{JobFolder, Key, Plan, Session, Spec, State};

/// Processes of the caller that run jobs of the same plan in the same folder, as [`execute_ready`](crate::execute_ready) does.
pub trait Helpers: Sync {
    /// Called before a job begins: `ready` others could begin beside it, of so many estimated seconds in all. Starts
    /// processes if that is worth it.
    fn call(&self, ready: usize, seconds: f64);

    /// How many of them work now.
    fn working(&self) -> usize;

    /// Whether the process of this number is one of them.
    fn include(&self, process: u32) -> bool;
}

/// Time between two looks at the helpers, and at what they finish.
const SHARE_TICK: Duration = Duration::from_millis(250);
const LOOK_TICK: Duration = Duration::from_secs(1);

/// Until `end` is closed: cuts this process's threads to its share of the cores, and shows the jobs that helpers finish.
pub(crate) fn watch(watched: &Watched<'_>, session: &Session<'_>, helpers: &dyn Helpers, end: &Receiver<()>) {
    let device = &session.environment.device;
    let threads = device.threads();
    let mut looked = Instant::now();
    while end.recv_timeout(SHARE_TICK) == Err(RecvTimeoutError::Timeout) {
        let working = helpers.working();
        device.limit_threads(threads / (1 + working));
        session.display.share(1 + working);
        if looked.elapsed() >= LOOK_TICK {
            watched.look(session);
            looked = Instant::now();
        }
    }
    device.limit_threads(threads);
}

/// Jobs that helpers may finish.
pub(crate) struct Watched<'a>(Vec<(Key, &'a Spec, JobFolder)>);

impl<'a> Watched<'a> {
    pub(crate) fn new(plan: &Plan<'a>, session: &Session<'_>) -> Self {
        let open = plan.open().map(|planned| planned.job);
        Self(open.map(|job| (job.key(), job.spec(), session.runs.job(job.key()))).collect())
    }

    fn look(&self, session: &Session<'_>) {
        let Session { display, .. } = session;
        for (key, spec, folder) in self.0.iter().filter(|(key, ..)| display.waits_for(*key)) {
            if folder.has_manifest()
                && let State::Done(manifest) = folder.state_unverified()
            {
                display.end(*key, spec, Ending::Beside { seconds: manifest.seconds });
            }
        }
    }
}
