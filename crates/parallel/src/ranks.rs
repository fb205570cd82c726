//! Ranks: the processes of one training, and what a way to connect them has to offer.

use crate::error::ParallelError;
use crate::tree;

/// The processes of one training, seen from one of them: each calls the same functions in the same order.
///
/// A way to connect processes needs [`gather`](Ranks::gather) alone; [`sum`](Ranks::sum) may be done with less traffic.
pub trait Ranks: Send {
    /// Which of them this process is.
    fn rank(&self) -> usize;

    /// How many there are: a power of two.
    fn count(&self) -> usize;

    /// The bytes of all ranks, in their order; each gives equally many.
    ///
    /// # Errors
    /// If a rank is lost, gives another number of bytes, or ends with a message of its own.
    fn gather(&mut self, mine: &[u8]) -> Result<Vec<u8>, ParallelError>;

    /// Replaces the numbers of each rank by their sum over all.
    ///
    /// # Errors
    /// As [`gather`](Ranks::gather).
    fn sum(&mut self, values: &mut Vec<f32>, order: SumOrder) -> Result<(), ParallelError> {
        let _: SumOrder = order;
        let all = self.gather(&bytes(values))?;
        let mut parts: Vec<Vec<f32>> = all.chunks_exact(4 * values.len().max(1)).map(numbers).collect();
        parts.truncate(self.count());
        *values = tree::tree_sum(parts);
        Ok(())
    }

    /// Tells all others, as far as they can be reached, why this rank ends; nothing follows.
    fn end(&mut self, why: &ParallelError);
}

/// In which order numbers of several ranks are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SumOrder {
    /// By a binary tree over the shards: the same bits for any number of ranks.
    #[default]
    Fixed,
    /// As the library that connects the ranks likes it best: the bits may depend on the number of ranks.
    Any,
}

/// One process alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn gather(&mut self, mine: &[u8]) -> Result<Vec<u8>, ParallelError> {
        Ok(mine.to_vec())
    }

    fn sum(&mut self, _: &mut Vec<f32>, _: SumOrder) -> Result<(), ParallelError> {
        Ok(())
    }

    fn end(&mut self, _: &ParallelError) {}
}

/// The little-endian bytes of numbers.
pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The numbers of little-endian bytes.
pub(crate) fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
}
