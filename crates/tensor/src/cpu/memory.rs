//! Buffers that return to a pool: a step of training allocates nothing large after warm-up.

use crate::array::{Array, Buffer, Element};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Freed memory kept beyond this returns to the system.
const KEEP_BYTES: usize = 3 << 29;

/// Freed memory, by element type and capacity class.
#[derive(Default)]
pub(super) struct Memory {
    free: Mutex<Free>,
}

#[derive(Default)]
pub(super) struct Free {
    f32: HashMap<usize, Vec<Vec<f32>>>,
    f64: HashMap<usize, Vec<Vec<f64>>>,
    u32: HashMap<usize, Vec<Vec<u32>>>,
    bytes: usize,
}

/// Memory of `len` elements that goes back to its pool when the last array on it is dropped.
pub(super) struct Block<E: Pooled> {
    /// As long as its capacity class, so at least `len`; the rest is never read.
    data: Vec<E>,
    len: usize,
    home: Arc<Memory>,
}

/// An element type that the pool keeps.
pub(super) trait Pooled: Element + Default {
    fn shelves(free: &mut Free) -> &mut HashMap<usize, Vec<Vec<Self>>>;
}

impl Memory {
    /// A block of `len` elements with unspecified contents: the caller overwrites all of them.
    pub(super) fn block<E: Pooled>(self: &Arc<Self>, len: usize) -> Block<E> {
        let class = capacity_class(len);
        let recycled = {
            let mut free = self.lock();
            let found = E::shelves(&mut free).get_mut(&class).and_then(Vec::pop);
            if found.is_some() {
                free.bytes -= class * size_of::<E>();
            }
            found
        };
        let data = recycled.unwrap_or_else(|| vec![E::default(); class]);
        Block { data, len, home: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // A panic while the lock is held cannot leave the lists half-changed in a way that matters.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Pooled> Block<E> {
    /// The block as the memory of an array.
    pub(super) fn finish(self) -> Buffer {
        Arc::new(self)
    }
}

impl<E: Pooled> Deref for Block<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        &self.data[..self.len]
    }
}

impl<E: Pooled> DerefMut for Block<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.data[..self.len]
    }
}

impl<E: Pooled> Drop for Block<E> {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let bytes = data.len() * size_of::<E>();
        let mut free = self.home.lock();
        if bytes > 0 && free.bytes + bytes <= KEEP_BYTES {
            free.bytes += bytes;
            E::shelves(&mut free).entry(data.len()).or_default().push(data);
        }
    }
}

/// The elements of an array of this backend.
///
/// # Panics
/// If the array lives on another kind of device or has another element type.
pub(super) fn read<E: Pooled>(x: &Array) -> &[E] {
    match x.buffer().downcast_ref::<Block<E>>() {
        Some(block) => block,
        None => panic!(
            "a CPU kernel got an array of {:?} on {} (move it to the CPU first)",
            x.dtype(),
            x.device().name()
        ),
    }
}

/// Capacities in steps of an eighth of a power of two, so that batches of shrinking size share memory
/// and at most an eighth is unused.
fn capacity_class(len: usize) -> usize {
    if len <= 64 {
        return len.next_power_of_two().max(1);
    }
    let step = (len.next_power_of_two() / 16).max(1);
    len.div_ceil(step) * step
}

impl Pooled for f32 {
    fn shelves(free: &mut Free) -> &mut HashMap<usize, Vec<Vec<Self>>> {
        &mut free.f32
    }
}

impl Pooled for f64 {
    fn shelves(free: &mut Free) -> &mut HashMap<usize, Vec<Vec<Self>>> {
        &mut free.f64
    }
}

impl Pooled for u32 {
    fn shelves(free: &mut Free) -> &mut HashMap<usize, Vec<Vec<Self>>> {
        &mut free.u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reused_within_a_class() {
        let memory = Arc::new(Memory::default());
        let block = memory.block::<f32>(1000);
        let address = block.as_ptr();
        drop(block);
        assert_eq!(memory.block::<f32>(990).as_ptr(), address);
    }

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for len in 65..5000usize {
            let class = capacity_class(len);
            assert!(class >= len && (class - len) * 8 <= len, "{len} -> {class}");
        }
    }
}
