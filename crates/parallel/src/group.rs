//! The shards of one training: those of this process meet in memory, those of others through [`Ranks`].

use crate::error::ParallelError;
use crate::ranks::{Alone, Ranks, SumOrder};
use crate::tree;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// The most shards of a training.
pub const MOST_SHARDS: usize = 1024;

/// The shards of one training that this process runs, each on a thread of its own, and its connection to all others.
pub struct Group {
    rank: usize,
    ranks: usize,
    /// Shards of this process.
    local: usize,
    order: SumOrder,
    round: Mutex<Round>,
    ready: Condvar,
}

/// A meeting of all shards of this process.
struct Round {
    connection: Box<dyn Ranks>,
    /// What each shard brought.
    brought: Vec<Option<Message>>,
    arrived: usize,
    /// Rounds that are over.
    over: u64,
    result: Arc<Message>,
    failed: Option<ParallelError>,
}

/// What a shard brings to a round, and what all take from it.
enum Message {
    Bytes(Vec<u8>),
    Numbers(Vec<f32>),
}

/// One of the equal parts that every batch is cut into, as the code that computes it sees it.
///
/// All shards call the same functions in the same order. A failed call returns zeros and remembers the error, so that
/// computations need not stop in the middle; ask [`check`](Shard::check) before anything is done with a result.
#[derive(Clone)]
pub struct Shard {
    group: Arc<Group>,
    /// Among those of this process.
    local: usize,
}

impl Group {
    /// The shards of a process that trains alone.
    ///
    /// # Errors
    /// As [`Group::new`].
    pub fn alone(shards: usize) -> Result<Arc<Group>, ParallelError> {
        Group::new(shards, Box::new(Alone), SumOrder::Fixed)
    }

    /// The part of `shards` shards that this rank runs.
    ///
    /// # Errors
    /// If the number of shards or of ranks is no power of two, there are fewer shards than ranks, or the ranks
    /// want different numbers.
    pub fn new(
        shards: usize,
        mut connection: Box<dyn Ranks>,
        order: SumOrder,
    ) -> Result<Arc<Group>, ParallelError> {
        let (rank, ranks) = (connection.rank(), connection.count());
        let possible = shards.is_power_of_two()
            && shards <= MOST_SHARDS
            && ranks.is_power_of_two()
            && shards.is_multiple_of(ranks);
        if !possible {
            let error = ParallelError::Setting(format!(
                "{shards} shards on {ranks} ranks; both have to be powers of two up to {MOST_SHARDS}, and there has to be at \
                 least one shard for each rank (--shards)"
            ));
            connection.end(&error);
            return Err(error);
        }
        let local = shards / ranks;
        let all = connection.gather(&(shards as u64).to_le_bytes())?;
        if let Some((other, _)) =
            all.chunks(8).enumerate().find(|(_, n)| **n != (shards as u64).to_le_bytes())
        {
            let error = ParallelError::Disagree(format!(
                "rank {other} has another number of shards than the {shards} of rank {rank}; give all the same --shards"
            ));
            connection.end(&error);
            return Err(error);
        }
        let round = Round {
            connection,
            brought: (0..local).map(|_| None).collect(),
            arrived: 0,
            over: 0,
            result: Arc::new(Message::Bytes(Vec::new())),
            failed: None,
        };
        let (round, ready) = (Mutex::new(round), Condvar::new());
        Ok(Arc::new(Group { rank, ranks, local, order, round, ready }))
    }

    /// The shards of this process, in order.
    pub fn shards(self: &Arc<Self>) -> Vec<Shard> {
        (0..self.local).map(|local| Shard { group: self.clone(), local }).collect()
    }

    /// The number of all shards.
    pub fn count(&self) -> usize {
        self.local * self.ranks
    }

    /// Which process this is.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// In which order numbers are added.
    pub fn order(&self) -> SumOrder {
        self.order
    }

    /// Ends all ranks for this reason, if they have not ended before.
    pub fn end(&self, why: ParallelError) {
        let mut round = self.lock();
        if round.failed.is_none() {
            round.connection.end(&why);
            round.failed = Some(why);
        }
        self.ready.notify_all();
    }

    /// The result of a round, which is over when all shards of all ranks have come; `None` if it failed.
    fn meet(&self, local: usize, message: Message) -> Option<Arc<Message>> {
        let mut round = self.lock();
        if round.failed.is_some() {
            return None;
        }
        round.brought[local] = Some(message);
        round.arrived += 1;
        if round.arrived < self.local {
            let now = round.over;
            while round.over == now && round.failed.is_none() {
                round = self.ready.wait(round).unwrap_or_else(|poison| poison.into_inner());
            }
            return (round.over != now).then(|| round.result.clone());
        }
        // The last one works for all; the others wait.
        round.arrived = 0;
        match round.exchange(self.order) {
            Ok(result) => {
                round.result = Arc::new(result);
                round.over += 1;
            }
            Err(error) => {
                round.connection.end(&error);
                round.failed = Some(error);
            }
        }
        self.ready.notify_all();
        round.failed.is_none().then(|| round.result.clone())
    }

    /// A shard that panics leaves the data behind this lock whole, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Round {
    /// What all shards of all ranks have brought, together.
    fn exchange(&mut self, order: SumOrder) -> Result<Message, ParallelError> {
        let (mut bytes, mut lines) = (Vec::new(), Vec::new());
        for message in self.brought.iter_mut().filter_map(Option::take) {
            match message {
                Message::Bytes(part) => bytes.extend(part),
                Message::Numbers(line) => lines.push(line),
            }
        }
        if lines.is_empty() {
            return Ok(Message::Bytes(self.connection.gather(&bytes)?));
        }
        let mut sum = tree::tree_sum(lines);
        self.connection.sum(&mut sum, order)?;
        Ok(Message::Numbers(sum))
    }
}

impl Shard {
    /// Which part of a batch it has, among all shards.
    pub fn index(&self) -> usize {
        self.group.rank * self.group.local + self.local
    }

    /// The number of all shards.
    pub fn count(&self) -> usize {
        self.group.count()
    }

    /// The shards of this process, and its connection.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Whether it writes the files: the first of all.
    pub fn is_first(&self) -> bool {
        self.index() == 0
    }

    /// The bytes of all shards, in their order; each gives equally many.
    pub fn gather(&self, mine: &[u8]) -> Vec<u8> {
        let all = mine.len() * self.count();
        match self.group.meet(self.local, Message::Bytes(mine.to_vec())).as_deref() {
            Some(Message::Bytes(bytes)) if bytes.len() == all => bytes.clone(),
            _ => vec![0; all],
        }
    }

    /// Replaces the numbers of each shard by their sum over all, by the tree of [`SumOrder::Fixed`] unless the group has
    /// another order.
    pub fn sum(&self, values: &mut Vec<f32>) {
        match self.group.meet(self.local, Message::Numbers(std::mem::take(values))).as_deref() {
            Some(Message::Numbers(sum)) => values.clone_from(sum),
            _ => values.clear(),
        }
    }

    /// Makes sure that `value` of `what` is the same on all shards.
    ///
    /// # Errors
    /// If it is not, on all shards; or if a call failed before.
    pub fn agree(&self, what: &str, value: &[u8; 32]) -> Result<(), ParallelError> {
        let all = self.gather(value);
        self.check()?;
        let Some(other) = all.chunks(32).position(|theirs| theirs != &all[..32]) else { return Ok(()) };
        let rank = other / self.group.local;
        let error = ParallelError::Disagree(format!(
            "rank {rank} has other {what} than rank 0; start all ranks with the same command and the same files"
        ));
        self.group.end(error.clone());
        Err(error)
    }

    /// Whether any shard says so.
    pub fn any(&self, mine: bool) -> bool {
        self.gather(&[u8::from(mine)]).contains(&1)
    }

    /// # Errors
    /// If a call of any shard failed.
    pub fn check(&self) -> Result<(), ParallelError> {
        match &self.group.lock().failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Ends all others if the thread of this shard panics before the value is dropped.
    pub fn guard(&self) -> impl Drop + use<> {
        Guard(self.group.clone())
    }
}

struct Guard(Arc<Group>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "a shard of it panicked, which is a bug".to_owned();
            self.0.end(ParallelError::Ended { rank: self.0.rank, message, again: false });
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shards on rank {} of {}", self.local, self.rank, self.ranks)
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of {}", self.index(), self.count())
    }
}
