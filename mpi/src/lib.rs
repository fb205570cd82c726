#![doc = include_str!("../README.md")]

mod library;

use library::{Collective, Library};
use std::io::Write;
use std::time::{Duration, Instant};
use tarrl_parallel::{ParallelError, Ranks, SumOrder, tree_sum};

/// The exit code of a job that may be repeated; docs/cluster.md has all.
const TRY_AGAIN: i32 = 75;

/// How long a rank waits for each rank before it until it ends all others, so that the first that is left speaks alone of what all
/// have seen.
const PATIENCE: Duration = Duration::from_secs(1);

/// The processes that mpirun or srun started.
#[derive(Debug)]
pub struct MpiRanks {
    library: Library,
    rank: usize,
    count: usize,
    timeout: Duration,
    /// Whether a collective operation was given up, after which nothing may follow.
    broken: bool,
}

impl MpiRanks {
    /// Begins MPI in this process, which may be done once. There have to be `count` ranks: a program that a launcher of another MPI
    /// has started believes that it is alone. Ranks that do not answer for `timeout` count as lost.
    ///
    /// # Errors
    /// If there is no Open MPI, or another number of ranks.
    pub fn open(count: usize, timeout: Duration) -> Result<MpiRanks, ParallelError> {
        let library = Library::open().map_err(ParallelError::Meeting)?;
        let [rank, found] = library.place();
        let ranks = MpiRanks { library, rank, count: found, timeout, broken: false };
        if found != count {
            return Err(ParallelError::Meeting(format!(
                "Open MPI knows of {found} ranks, but the launcher has started {count}; start them with the mpirun of the same \
                 library, or with srun --mpi=pmix"
            )));
        }
        Ok(ranks)
    }

    /// Runs a collective operation to its end.
    fn run(&mut self, operation: Collective<'_>) -> Result<(), ParallelError> {
        let failed = |rank, cause| ParallelError::Ended { rank, message: cause, again: true };
        let mut request = self.library.begin(operation).map_err(|cause| failed(self.rank, cause))?;
        let began = Instant::now();
        loop {
            match request.is_done() {
                Ok(true) => return Ok(()),
                Ok(false) if began.elapsed() > self.timeout => {
                    let cause = format!(
                        "no answer of the other ranks for {} s (--rank-timeout); start all ranks again with the same command, and the \
                         training resumes",
                        self.timeout.as_secs()
                    );
                    let error = failed(self.rank, cause);
                    say(self.rank, &error);
                    request.give_up(TRY_AGAIN);
                    return Err(error);
                }
                // Ranks may share a core.
                Ok(false) => std::thread::yield_now(),
                Err(cause) => return Err(failed(self.rank, cause)),
            }
        }
    }
}

impl Ranks for MpiRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn gather(&mut self, mine: &[u8]) -> Result<Vec<u8>, ParallelError> {
        let mut all = vec![0; mine.len() * self.count];
        self.run(Collective::GatherBytes { mine, all: &mut all })?;
        Ok(all)
    }

    fn sum(&mut self, values: &mut Vec<f32>, order: SumOrder) -> Result<(), ParallelError> {
        if order == SumOrder::Any {
            let mut sum = vec![0.0; values.len()];
            self.run(Collective::Sum { mine: values, all: &mut sum })?;
            *values = sum;
            return Ok(());
        }
        let length = values.len();
        let share = length.div_ceil(self.count);
        values.resize(share * self.count, 0.0);
        let mut parts = vec![0.0; values.len()];
        self.run(Collective::Exchange { mine: values, all: &mut parts })?;
        let own = tree_sum(parts.chunks(share.max(1)).map(<[f32]>::to_vec).collect());
        self.run(Collective::Gather { mine: &own, all: values })?;
        values.truncate(length);
        Ok(())
    }

    /// Says why and ends the processes of all ranks. The first speaks at once, each other a second after the one before it, so
    /// that what all have seen is said once.
    fn end(&mut self, why: &ParallelError) {
        say(self.rank, why);
        self.broken = true;
        self.library.abort(if why.is_passing() { TRY_AGAIN } else { 1 });
    }
}

/// The message of a rank that ends all.
fn say(rank: usize, why: &ParallelError) {
    std::thread::sleep(PATIENCE * u32::try_from(rank).unwrap_or(u32::MAX));
    // Where standard error is closed nobody reads it.
    let _ = writeln!(std::io::stderr(), "error: {why}");
}

impl Drop for MpiRanks {
    fn drop(&mut self) {
        // To finalize means to wait for the others, who may wait for this rank.
        if std::thread::panicking() || self.broken {
            self.library.abort(1);
        } else {
            self.library.finalize();
        }
    }
}
