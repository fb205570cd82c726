//! Workspaces of the matrix kernels, kept between calls.
use super::element::Element;
use super::kernel::{Level, Row, Run};
use crate::cpu::memory::{Block, Memory};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Which algorithms a kernel may choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// The fastest whose error is known: Winograd's convolution where it is quicker.
    #[default]
    Fast,
    /// Sums of products only, as the definition has them; for gradient checks and certificates.
    Direct,
}

/// Workspaces of the kernels (packed weights, padded tiles, partial sums): after the first call with some shapes, calls with
/// these shapes allocate nothing. They have a memory of their own, so that every call finds the lines that the one before it
/// has left in the caches. Also knows the processor and the [`Arithmetic`] asked for.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) level: Level,
    pub(crate) arithmetic: Arithmetic,
    pub(super) memory: Arc<Memory>,
    pub(super) rows: Pool<Row>,
    pub(super) runs: Pool<Run>,
}

impl Scratch {
    /// Workspaces for kernels that compute as `arithmetic` allows.
    pub(crate) fn new(arithmetic: Arithmetic) -> Scratch {
        Scratch { arithmetic, ..Scratch::default() }
    }

    /// Bytes held at present for workspaces.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.memory.reserved() + self.rows.bytes() + self.runs.bytes()
    }

    /// `len` elements of arbitrary content that start at a cache line.
    pub(crate) fn take<T: Element>(&self, len: usize) -> Block<T> {
        self.memory.block(len)
    }

    pub(crate) fn rows(&self, len: usize) -> Lease<'_, Row> {
        self.rows.take(len)
    }

    pub(crate) fn runs(&self, len: usize) -> Lease<'_, Run> {
        self.runs.take(len)
    }
}

/// Buffers that nobody uses.
#[derive(Debug)]
pub(crate) struct Pool<T>(Mutex<Vec<Vec<T>>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Mutex::default())
    }
}

impl<T: Copy + Default> Pool<T> {
    /// The smallest idle buffer that is large enough; else the largest one, enlarged.
    fn take(&self, len: usize) -> Lease<'_, T> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Sorted by length.
        let fit = idle.partition_point(|buffer| buffer.len() < len);
        let mut buffer = if fit < idle.len() { idle.remove(fit) } else { idle.pop().unwrap_or_default() };
        drop(idle);
        if buffer.len() < len {
            buffer = vec![T::default(); len];
        }
        Lease { pool: self, buffer, len }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().map(|buffer| size_of_val(&buffer[..])).sum()
    }
}

/// A buffer lent by a [`Pool`], which gets it back at the end.
pub(crate) struct Lease<'a, T> {
    pool: &'a Pool<T>,
    buffer: Vec<T>,
    len: usize,
}

impl<T> Deref for Lease<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.buffer[..self.len]
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[..self.len]
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut idle = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.partition_point(|other| other.len() < buffer.len());
        idle.insert(at, buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_request_leaves_the_larger_buffer_idle() {
        let scratch = Scratch::default();
        drop((scratch.rows(1000), scratch.rows(10)));
        let held = scratch.bytes();
        let small = scratch.rows(10);
        let large = scratch.rows(1000);
        assert_eq!((small.len(), large.len()), (10, 1000));
        drop((small, large));
        assert_eq!(scratch.bytes(), held);
    }
}
