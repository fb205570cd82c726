//! Why the ranks of a training ended together.

/// Why the ranks of a training ended together. Every message names the rank, the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParallelError {
    /// The number of shards, or that of ranks, is not possible.
    #[error("{0}")]
    Setting(String),
    /// The ranks did not find each other.
    #[error("the ranks did not come together: {0}")]
    Meeting(String),
    /// A rank died, or has sent nothing for too long.
    #[error(
        "rank {rank} was lost: {cause}; start all ranks again with the same command, and the training resumes"
    )]
    Lost {
        /// The rank.
        rank: usize,
        /// What was seen of it.
        cause: String,
    },
    /// Two ranks do not train the same.
    #[error("the ranks disagree: {0}")]
    Disagree(String),
    /// Another rank, or another shard of this process, ended first.
    #[error("rank {rank} ended: {message}")]
    Ended {
        /// The rank.
        rank: usize,
        /// Its message.
        message: String,
        /// Whether the same command may succeed when it is repeated.
        again: bool,
    },
}

impl ParallelError {
    /// Whether the same command may succeed when it is repeated: a rank was lost, but nothing is wrong.
    pub fn is_passing(&self) -> bool {
        match self {
            ParallelError::Lost { .. } => true,
            ParallelError::Ended { again, .. } => *again,
            _ => false,
        }
    }

    /// Whether `rank` is the one that tells the user, so that there is one message: the first rank that is left.
    pub fn is_told_by(&self, rank: usize) -> bool {
        match self {
            ParallelError::Lost { rank: 0, .. } => rank == 1,
            ParallelError::Setting(_) | ParallelError::Meeting(_) => true,
            _ => rank == 0,
        }
    }
}
