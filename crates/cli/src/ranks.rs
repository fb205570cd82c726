//! A training on several processes: options, connection, and who of them says what.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use tarrl_jobs::{JobHeld, Stopped};
use tarrl_parallel::{Group, Launch, ParallelError, SumOrder};
use tarrl_train::TrainError;

use crate::device::DeviceName;
use crate::exit_code::{Silent, TRY_AGAIN};
use crate::limits;

/// How a training is cut for several processes.
#[derive(Args, Debug)]
pub(crate) struct RankOptions {
    /// Equal parts that every batch is cut into, a power of two; each is trained on by a thread of its own, on this process or
    /// another. They determine the bits; the number of processes does not
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = limits::whole::<usize>("--shards"))]
    pub(crate) shards: usize,

    /// What connects the processes
    #[arg(long, value_name = "BY", default_value = "tcp")]
    connect: Connect,

    /// How gradients of several processes are added: in an order that the shards fix, or as MPI or NCCL likes it best, which may change
    /// the bits with the number of processes
    #[arg(long, value_name = "ORDER", default_value = "fixed")]
    sum: Order,

    /// Seconds after which a process that is silent counts as lost; a checkpoint and the measurements at the end of an epoch have to
    /// fit into them
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = limits::whole::<u64>("--rank-timeout"))]
    rank_timeout: u64,
}

/// What connects the processes of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Connect {
    /// TCP, through the first
    Tcp,
    /// Open MPI
    Mpi,
    /// NCCL, between GPUs; the processes find each other over TCP
    Nccl,
}

/// In which order gradients are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Fixed,
    Any,
}

/// The processes of a training, connected.
pub(crate) struct Ranks {
    launch: Option<Launch>,
    group: Option<Arc<Group>>,
}

impl RankOptions {
    /// Connects the processes that a launcher has started; without one there is this process alone.
    pub(crate) fn start(&self, device: DeviceName) -> anyhow::Result<Ranks> {
        let launch = Launch::of(&|name| std::env::var(name).ok())?;
        let several = launch.as_ref().is_some_and(|launch| launch.count > 1);
        let Some(launch) = launch.filter(|_| several) else { return Ok(Ranks { launch: None, group: None }) };
        if self.shards == 1 {
            bail!(
                "this is one of {count} processes, but the batches are not cut for them; give all --shards {count} or more, or start \
                 one process",
                count = launch.count
            );
        }
        let timeout = Duration::from_secs(self.rank_timeout);
        let connection: Box<dyn tarrl_parallel::Ranks> = match self.connect {
            Connect::Tcp => Box::new(launch.tcp(timeout)?),
            Connect::Mpi => mpi(&launch, timeout)?,
            Connect::Nccl => nccl(&launch, of_launch(device, &launch), timeout)?,
        };
        let order = match self.sum {
            Order::Fixed => SumOrder::Fixed,
            Order::Any => SumOrder::Any,
        };
        let rank = launch.rank;
        let group = Group::new(self.shards, connection, order).map_err(|error| told(error.into(), rank))?;
        Ok(Ranks { launch: Some(launch), group: Some(group) })
    }
}

impl Ranks {
    /// Whether this process writes the files and talks to the user.
    pub(crate) fn is_first(&self) -> bool {
        self.rank() == 0
    }

    fn rank(&self) -> usize {
        self.launch.as_ref().map_or(0, |launch| launch.rank)
    }

    pub(crate) fn group(&self) -> Option<Arc<Group>> {
        self.group.clone()
    }

    /// The GPU of this process, of those of a machine.
    pub(crate) fn device(&self, named: DeviceName) -> DeviceName {
        self.launch.as_ref().map_or(named, |launch| of_launch(named, launch))
    }

    /// Threads that work on each shard of this process, which has `asked` threads for all `shards` together: by default its share of the
    /// cores. 0 means all cores.
    pub(crate) fn threads(&self, asked: Option<u16>, shards: usize) -> usize {
        let (here, count) = self.launch.as_ref().map_or((1, 1), |launch| (launch.local_count, launch.count));
        if shards == 1 {
            return asked.map_or(0, usize::from);
        }
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() / here);
        let own = asked.map_or_else(cores, usize::from);
        (own / (shards / count).max(1)).max(1)
    }

    /// Ends all processes where this one failed. Of all errors one is shown: the first process's, which hears of the others'.
    pub(crate) fn finish(&self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        let (Err(error), Some(group)) = (&result, &self.group) else { return result };
        let stopped = error.is::<Stopped>();
        if !stopped && parallel(error).is_none() {
            let (rank, message) = (self.rank(), tarrl_jobs::message::message(error).to_string());
            group.end(ParallelError::Ended { rank, message, again: error.is::<JobHeld>() });
        }
        result.map_err(|error| told(error, self.rank()))
    }
}

fn of_launch(named: DeviceName, launch: &Launch) -> DeviceName {
    if named == DeviceName::Cuda(0) { DeviceName::Cuda(launch.local_rank) } else { named }
}

/// The error as this rank shows it: silent where another one does.
fn told(error: anyhow::Error, rank: usize) -> anyhow::Error {
    let shown = parallel(&error).map_or(rank == 0, |error| error.is_told_by(rank));
    let again = error.is::<Stopped>() || error.is::<JobHeld>() || is_passing(&error);
    if shown { error } else { Silent(if again { TRY_AGAIN } else { 1 }).into() }
}

/// Whether all ranks ended for a reason that passes, such as the loss of one.
pub(crate) fn is_passing(error: &anyhow::Error) -> bool {
    parallel(error).is_some_and(ParallelError::is_passing)
}

fn parallel(error: &anyhow::Error) -> Option<&ParallelError> {
    match error.downcast_ref() {
        Some(TrainError::Parallel { source, .. }) => Some(source),
        _ => error.downcast_ref(),
    }
}

#[cfg(feature = "mpi")]
fn mpi(launch: &Launch, timeout: Duration) -> anyhow::Result<Box<dyn tarrl_parallel::Ranks>> {
    Ok(Box::new(tarrl_mpi::MpiRanks::open(launch.count, timeout)?))
}

#[cfg(not(feature = "mpi"))]
fn mpi(_: &Launch, _: Duration) -> anyhow::Result<Box<dyn tarrl_parallel::Ranks>> {
    bail!(
        "--connect mpi needs a program with MPI; build it with `cargo build --release -p tarrl-cli --features mpi`, or connect over \
         TCP, which needs nothing"
    )
}

#[cfg(feature = "cuda")]
fn nccl(
    launch: &Launch,
    device: DeviceName,
    timeout: Duration,
) -> anyhow::Result<Box<dyn tarrl_parallel::Ranks>> {
    let DeviceName::Cuda(ordinal) = device else {
        bail!("--connect nccl connects GPUs; give --device cuda, or connect over tcp or mpi")
    };
    let (control, places) = (launch.tcp(timeout)?, tarrl_cuda::Places::usual());
    let ranks = tarrl_cuda::NcclRanks::open(control, ordinal, &places, timeout);
    Ok(Box::new(ranks.map_err(|error| told(error.into(), launch.rank))?))
}

#[cfg(not(feature = "cuda"))]
fn nccl(_: &Launch, _: DeviceName, _: Duration) -> anyhow::Result<Box<dyn tarrl_parallel::Ranks>> {
    Err(crate::device::without_the_backend("--connect nccl"))
}
