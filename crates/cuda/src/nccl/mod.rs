//! The ranks of a training over NCCL, one process for each GPU.
//!
//! Two connections: TCP, by which the ranks find each other, agree on each exchange before it begins, and tell each other why they
//! end; and NCCL, which carries the numbers. NCCL itself compares nothing: ranks that give other lengths, or of which one is gone,
//! wait for good. So an exchange begins only when all ranks have said over TCP that they want the same one, and while it runs
//! each looks whether the others are still there. Short messages go over TCP altogether.

mod endpoint;

use crate::error::CudaError;
use crate::libraries::Places;
use crate::libraries::nccl::{ID_BYTES, Nccl};
use endpoint::{Endpoint, Exchange};
use std::time::{Duration, Instant};
use tarrl_parallel::{ParallelError, Ranks, SumOrder, TcpRanks, tree_sum};

/// Bytes of a rank up to which a message goes over TCP: the round trip is needed anyway.
const SHORT: usize = 4096;

/// How long an exchange goes on after something looks wrong: a rank may end well before this one has seen its last numbers, and
/// one that knows more may say so.
const GRACE: Duration = Duration::from_secs(2);

/// How often the other ranks are looked for while an exchange runs.
const LOOK: Duration = Duration::from_millis(20);

const GATHER: u8 = 1;
const SUM_IN_ORDER: u8 = 2;
const SUM_IN_ANY: u8 = 3;

/// The version of NCCL, such as `2.27.3`.
///
/// # Errors
/// If it is not installed, or older than 2.14.
pub fn nccl_version(places: &Places) -> Result<String, CudaError> {
    Nccl::open(places).map(|nccl| named(nccl.version()))
}

/// Processes with a GPU each, connected by NCCL. Numbers go from the memory of the host through that of the GPU.
pub struct NcclRanks {
    control: TcpRanks,
    endpoint: Endpoint,
    timeout: Duration,
    /// Why an exchange was given up, which may still run: nothing follows.
    failed: Option<ParallelError>,
}

impl NcclRanks {
    /// Connects the ranks of `control`, each of which opens its GPU `ordinal`. Ranks that do not answer for `timeout` count as lost.
    ///
    /// # Errors
    /// If a rank has no driver, no such GPU or no NCCL, two of them have the same GPU or other versions of NCCL, or a rank is lost. All ranks
    /// then end, with one message.
    pub fn open(
        mut control: TcpRanks,
        ordinal: usize,
        places: &Places,
        timeout: Duration,
    ) -> Result<NcclRanks, ParallelError> {
        let rank = control.rank();
        let opened = Endpoint::open(ordinal, places).map_err(|error| error.to_string());
        let opened = opened.and_then(|endpoint| {
            let id = if rank == 0 { endpoint.id()? } else { [0; ID_BYTES] };
            Ok((endpoint, id))
        });
        let (endpoint, id) = opened.map_err(|message| {
            let error = ParallelError::Ended { rank, message, again: false };
            control.end(&error);
            error
        })?;
        let mut ranks = NcclRanks { control, endpoint, timeout, failed: None };
        ranks.connect(id).inspect_err(|error| ranks.end(error))?;
        Ok(ranks)
    }

    fn connect(&mut self, id: [u8; ID_BYTES]) -> Result<(), ParallelError> {
        let place @ [rank, count] = [self.rank(), self.count()];
        let version = self.endpoint.version();
        let all = self.control.gather(&[&id[..], &version.to_le_bytes()].concat())?;
        let lines: Vec<(&[u8], u32)> = all
            .chunks_exact(ID_BYTES + 4)
            .map(|line| line.split_at(ID_BYTES))
            .map(|(id, version)| (id, version.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte))))
            .collect();
        if let Some(other) = (0..count).find(|&other| lines[other].1 != lines[0].1) {
            return Err(ParallelError::Disagree(format!(
                "rank {other} has NCCL {} and rank 0 has NCCL {}; install the same version for all ranks",
                named(lines[other].1),
                named(lines[0].1)
            )));
        }
        let id = lines[0].0.try_into().expect("as many bytes as each gave");
        self.endpoint.connect(id, place).map_err(|cause| refused(rank, cause))?;
        self.wait(refused)
    }

    /// Makes sure that all ranks want the same exchange, which they begin together.
    fn agree(&mut self, kind: u8, bytes: usize) -> Result<(), ParallelError> {
        let mine = [&[kind][..], &(bytes as u64).to_le_bytes()].concat();
        let all = self.control.gather(&mine)?;
        let lines: Vec<&[u8]> = all.chunks_exact(mine.len()).collect();
        match lines.iter().position(|line| *line != lines[0]) {
            None => Ok(()),
            Some(other) => Err(ParallelError::Disagree(format!(
                "rank {other} has {} where rank 0 has {}; start all ranks with the same program and command",
                described(lines[other]),
                described(lines[0])
            ))),
        }
    }

    /// The result of an exchange, `length` numbers or bytes.
    fn exchange<T: Copy + Default>(
        &mut self,
        exchange: &Exchange<'_>,
        length: usize,
    ) -> Result<Vec<T>, ParallelError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (rank, count) = (self.rank(), self.count());
        self.endpoint.begin(exchange, count).map_err(|cause| ended(rank, cause))?;
        self.wait(ended).inspect_err(|error| self.failed = Some(error.clone()))?;
        let mut all = vec![T::default(); length];
        self.endpoint.result(&mut all).map_err(|cause| ended(rank, cause))?;
        Ok(all)
    }

    /// Waits for what was begun, and for no rank that is gone.
    fn wait(&mut self, error_of: fn(usize, String) -> ParallelError) -> Result<(), ParallelError> {
        let rank = self.rank();
        // Rank 0 gives up first and says so to the others.
        let patience = if rank == 0 { self.timeout } else { 2 * self.timeout };
        let (began, mut looked) = (Instant::now(), Instant::now());
        // What NCCL and what TCP saw first.
        let [mut failed, mut lost] = [None, None];
        let mut since = began;
        loop {
            match self.endpoint.is_done() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(cause) => {
                    if failed.is_none() {
                        (failed, since) = (Some(error_of(rank, cause)), Instant::now());
                    }
                }
            }
            if looked.elapsed() >= LOOK || failed.is_some() {
                looked = Instant::now();
                match self.control.look() {
                    Err(told @ ParallelError::Ended { .. }) => return Err(told),
                    Err(error) if lost.is_none() => (lost, since) = (Some(error), Instant::now()),
                    _ => {}
                }
            }
            match (&failed, &lost) {
                // Both at once are no coincidence.
                (Some(_), Some(error)) => return Err(error.clone()),
                (Some(error), None) | (None, Some(error)) if since.elapsed() >= GRACE => {
                    return Err(error.clone());
                }
                _ if began.elapsed() >= patience => return Err(self.gave_up()),
                _ => {}
            }
            // Most exchanges take less than a millisecond.
            match began.elapsed() {
                short if short < Duration::from_millis(2) => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    /// Why an exchange that all had begun is given up.
    fn gave_up(&self) -> ParallelError {
        let seconds = self.timeout.as_secs();
        match self.rank() {
            0 => ended(
                0,
                format!("NCCL did not finish for {seconds} s (--rank-timeout), although all ranks had begun"),
            ),
            // It would have said so long ago.
            _ => ParallelError::Lost {
                rank: 0,
                cause: format!("it has said nothing for twice the {seconds} s of --rank-timeout"),
            },
        }
    }
}

impl Ranks for NcclRanks {
    fn rank(&self) -> usize {
        self.control.rank()
    }

    fn count(&self) -> usize {
        self.control.count()
    }

    fn gather(&mut self, mine: &[u8]) -> Result<Vec<u8>, ParallelError> {
        if mine.len() <= SHORT {
            return self.control.gather(mine);
        }
        self.agree(GATHER, mine.len())?;
        self.exchange(&Exchange::Gather(mine), mine.len() * self.count())
    }

    fn sum(&mut self, values: &mut Vec<f32>, order: SumOrder) -> Result<(), ParallelError> {
        let bytes = size_of_val(&values[..]);
        if bytes <= SHORT {
            return self.control.sum(values, order);
        }
        *values = match order {
            SumOrder::Fixed => {
                self.agree(SUM_IN_ORDER, bytes)?;
                let all = self.exchange(&Exchange::GatherNumbers(values), values.len() * self.count())?;
                tree_sum(all.chunks_exact(values.len()).map(<[f32]>::to_vec).collect())
            }
            SumOrder::Any => {
                self.agree(SUM_IN_ANY, bytes)?;
                self.exchange(&Exchange::Sum(values), values.len())?
            }
        };
        Ok(())
    }

    fn end(&mut self, why: &ParallelError) {
        // The others first: NCCL may take its time to stop what runs on the GPU.
        self.control.end(why);
        self.endpoint.abort();
    }
}

impl Drop for NcclRanks {
    fn drop(&mut self) {
        // To finalize means to wait for the others, who may wait for this rank.
        if std::thread::panicking() {
            self.endpoint.abort();
        }
    }
}

/// What NCCL said when ranks came together will be the same next time.
fn refused(rank: usize, cause: String) -> ParallelError {
    let message =
        format!("{cause}; each rank needs a GPU of its own, which LOCAL_RANK chooses where --device is cuda");
    ParallelError::Ended { rank, message, again: false }
}

/// What NCCL or the driver said may be different next time.
fn ended(rank: usize, cause: String) -> ParallelError {
    let message = format!("{cause}; start all ranks again with the same command, and the training resumes");
    ParallelError::Ended { rank, message, again: true }
}

fn described(line: &[u8]) -> String {
    let bytes = line[1..].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
    match line[0] {
        GATHER => format!("{bytes} bytes to gather"),
        SUM_IN_ORDER => format!("{} numbers to add in a fixed order", bytes / 4),
        _ => format!("{} numbers to add in any order", bytes / 4),
    }
}

/// As NCCL counts since 2.9: 22703 is 2.27.3.
fn named(version: u32) -> String {
    format!("{}.{}.{}", version / 10000, version / 100 % 100, version % 100)
}

impl std::fmt::Debug for NcclRanks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {} with NCCL {}", self.rank(), self.count(), named(self.endpoint.version()))
    }
}
