//! Workspaces that outlive the calls which use them.
use super::element::Element;
use super::kernel::{Level, Row, Run};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Which algorithms a kernel may choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// The fastest whose error is known: Winograd's convolution where it is quicker.
    #[default]
    Fast,
    /// Sums of products only, as the definition has them; for gradient checks and certificates.
    Direct,
}

/// Workspaces of the kernels (packed weights, padded tiles, partial sums), kept from call to call: after the first call
/// with some shapes, calls with these shapes allocate nothing. Also knows the processor and the [`Arithmetic`] asked for.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) level: Level,
    pub(crate) arithmetic: Arithmetic,
    pub(super) singles: Pool<f32>,
    pub(super) doubles: Pool<f64>,
    pub(super) rows: Pool<Row>,
    pub(super) runs: Pool<Run>,
}

impl Scratch {
    /// Empty workspaces for kernels that compute as `arithmetic` allows.
    pub(crate) fn new(arithmetic: Arithmetic) -> Scratch {
        Scratch { arithmetic, ..Scratch::default() }
    }

    /// Bytes held at present by workspaces that no call is using.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.singles.bytes() + self.doubles.bytes() + self.rows.bytes() + self.runs.bytes()
    }

    /// `len` elements of arbitrary content that start at a cache line.
    pub(crate) fn take<T: Element>(&self, len: usize) -> Lease<'_, T> {
        T::pool(self).take(len)
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

/// Alignment of every buffer in bytes: one cache line.
const ALIGNMENT: usize = 64;

impl<T: Copy + Default> Pool<T> {
    /// The smallest idle buffer that is large enough; else the largest one, enlarged.
    fn take(&self, len: usize) -> Lease<'_, T> {
        let room = len + ALIGNMENT / size_of::<T>().min(ALIGNMENT);
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Sorted by length.
        let fit = idle.partition_point(|buffer| buffer.len() < room);
        let mut buffer = if fit < idle.len() { idle.remove(fit) } else { idle.pop().unwrap_or_default() };
        drop(idle);
        if buffer.len() < room {
            buffer = vec![T::default(); room];
        }
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(room - len);
        Lease { pool: self, buffer, start, len }
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
    start: usize,
    len: usize,
}

impl<T> Deref for Lease<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[self.start..self.start + self.len]
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
    fn buffers_are_aligned_and_come_back() {
        let scratch = Scratch::default();
        for len in [0, 1, 100, 7] {
            let a = scratch.take::<f32>(len);
            let b = scratch.take::<f64>(len);
            assert_eq!((a.len(), b.len()), (len, len));
            assert_eq!(a.as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(b.as_ptr() as usize % ALIGNMENT, 0);
        }
        assert_eq!(scratch.bytes(), (100 + 16) * 4 + (100 + 8) * 8);
    }

    #[test]
    fn a_smaller_request_leaves_the_larger_buffer_idle() {
        let scratch = Scratch::default();
        drop((scratch.take::<f32>(1000), scratch.take::<f32>(10)));
        let held = scratch.bytes();
        let small = scratch.take::<f32>(10);
        let large = scratch.take::<f32>(1000);
        drop((small, large));
        assert_eq!(scratch.bytes(), held);
    }
}
