//! Helper processes: `tarrl worker --helper`, started by `tarrl reproduce` where several jobs could run at once.

use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tarrl_jobs::machine;

use crate::study_args::StudyArgs;

/// The helpers of a run. They end when their standard input is closed, so at the latest with this process.
pub(crate) struct Helpers {
    study: StudyArgs,
    /// Threads that all processes share.
    threads: usize,
    /// Helpers at a time.
    most: usize,
    /// Estimated seconds of work for which one is started.
    least_seconds: f64,
    children: Mutex<Vec<Child>>,
}

/// More processes than these help little: chains of jobs are as long as the longest training.
const MOST_PROCESSES: usize = 4;
/// Memory that must be free for each process, unless the number of processes is given.
const MEMORY: u64 = 2 << 30;
/// Below this a helper would have read the folder just when the work is done.
const LEAST_SECONDS: f64 = 4.0;

impl Helpers {
    /// For a run in `processes` processes, or in as many as help and fit into memory, with `threads` threads in all.
    pub(crate) fn new(study: &StudyArgs, threads: usize, processes: Option<usize>) -> Self {
        let fitting = || machine::available_memory().map_or(1, |bytes| (bytes / MEMORY) as usize);
        let most = processes.unwrap_or_else(|| MOST_PROCESSES.min(fitting()));
        Helpers {
            study: study.clone(),
            threads,
            most: most.min(threads).saturating_sub(1),
            least_seconds: if processes.is_some() { 0.0 } else { LEAST_SECONDS },
            children: Mutex::default(),
        }
    }

    fn start(&self, threads: usize) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["worker", "--helper"]).args(self.study.with_threads(threads).words()?);
        // What it has to say is in the folder, and an end of this process closes its input.
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Those that still run.
    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        children
    }
}

impl tarrl_jobs::Helpers for Helpers {
    fn call(&self, ready: usize, seconds: f64) {
        let mut children = self.children();
        let wanted = ready.min(self.most);
        if wanted <= children.len() || seconds < self.least_seconds {
            return;
        }
        let threads = (self.threads / (wanted + 1)).max(1);
        for _ in children.len()..wanted {
            // Without a helper the run takes longer, and comes to the same.
            children.extend(self.start(threads).ok());
        }
    }

    fn working(&self) -> usize {
        self.children().len()
    }

    fn include(&self, process: u32) -> bool {
        self.children().iter().any(|child| child.id() == process)
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        let mut children = std::mem::take(&mut *self.children());
        children.iter_mut().for_each(|child| drop(child.stdin.take()));
        children.iter_mut().for_each(|child| drop(child.wait()));
    }
}
