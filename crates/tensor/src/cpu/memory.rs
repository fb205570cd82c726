//! The memory pool: buffers are reused, so that a training step allocates nothing after warm-up.

mod arena;

use super::deferred::Deferred;
use crate::array::{Array, Buffer, Element};
use arena::Arena;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Blocks smaller than this many bytes live apart, so that a long-lived small one never splits room for a map.
const SMALL: usize = 64 << 10;

/// Address space of the larger blocks, where the system gives so much: 4 GiB, of which unused pages cost nothing.
const SLAB: usize = if usize::BITS > 32 { 1 << 32 } else { 1 << 28 };

/// Bytes of the longest block.
const LARGEST: usize = isize::MAX as usize / 2;

/// Memory of blocks of any length and element type.
#[derive(Debug)]
pub(super) struct Memory {
    arenas: Mutex<Arenas>,
}

#[derive(Debug)]
struct Arenas {
    small: Arena,
    large: Arena,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { arenas: Mutex::new(Arenas { small: Arena::new(SLAB / 64), large: Arena::new(SLAB) }) }
    }
}

/// Memory of `len` elements that goes back when the last array on it is dropped. It starts at a cache line.
pub(super) struct Block<E: Pooled> {
    data: NonNull<u8>,
    len: usize,
    home: Arc<Memory>,
    elements: PhantomData<E>,
}

/// An element type of which every pattern of bits is a value, so that memory can change its type.
pub(super) trait Pooled: Element + Default {}

impl Pooled for f32 {}
impl Pooled for f64 {}
impl Pooled for u32 {}

impl Memory {
    /// A block of `len` elements with unspecified contents: the caller overwrites all of them.
    ///
    /// # Panics
    /// If the address space has no room for so many elements.
    pub(super) fn block<E: Pooled>(self: &Arc<Self>, len: usize) -> Block<E> {
        // As `Layout` demands; a product that wraps would give a short stretch to a long block.
        let bytes = len.checked_mul(size_of::<E>()).filter(|&bytes| bytes <= LARGEST);
        let bytes =
            bytes.unwrap_or_else(|| panic!("an array of {len} elements does not fit the address space"));
        let data = self.lock().of(bytes).take(bytes);
        Block { data, len, home: self.clone(), elements: PhantomData }
    }

    /// Bytes in use, with the gaps between them, at the time when they were most.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        let arenas = self.lock();
        arenas.small.reserved() + arenas.large.reserved()
    }

    fn lock(&self) -> MutexGuard<'_, Arenas> {
        // Nothing in there can panic half-way but for want of memory.
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arenas {
    fn of(&mut self, bytes: usize) -> &mut Arena {
        if bytes < SMALL { &mut self.small } else { &mut self.large }
    }
}

impl<E: Pooled> Block<E> {
    /// The block as the memory of an array.
    pub(super) fn finish(self) -> Buffer {
        Arc::new(self)
    }
}

// SAFETY: a block owns its stretch of memory alone, and elements are plain numbers.
unsafe impl<E: Pooled> Send for Block<E> {}
// SAFETY: a shared block can only be read.
unsafe impl<E: Pooled> Sync for Block<E> {}

impl<E: Pooled> Deref for Block<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        // SAFETY: the arena gave `len` elements at an aligned address to this block alone, zeroed at their birth and
        // written since with numbers only; every pattern of bits is a value of `E`.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast(), self.len) }
    }
}

impl<E: Pooled> DerefMut for Block<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as above, and this borrow is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr().cast(), self.len) }
    }
}

impl<E: Pooled> Drop for Block<E> {
    fn drop(&mut self) {
        let bytes = self.len * size_of::<E>();
        self.home.lock().of(bytes).give(self.data, bytes);
    }
}

/// The elements of an array of this backend.
///
/// # Panics
/// If the array lives on another kind of device or has another element type.
pub(super) fn read<E: Pooled>(x: &Array) -> &[E] {
    let buffer = x.buffer();
    match (buffer.downcast_ref::<Block<E>>(), buffer.downcast_ref::<Deferred<E>>()) {
        (Some(block), _) => block,
        (None, Some(deferred)) => deferred.force(),
        (None, None) => panic!(
            "a CPU kernel got an array of {:?} on {} (move it to the CPU first)",
            x.dtype(),
            x.device().name()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reused_across_sizes_and_types() {
        let memory = Arc::new(Memory::default());
        let block = memory.block::<f32>(100_000);
        let address = block.as_ptr() as usize;
        drop(block);
        let [a, b] = [memory.block::<f64>(20_000), memory.block::<f64>(20_000)];
        assert_eq!(a.as_ptr() as usize, address);
        assert_eq!(b.as_ptr() as usize, address + 160_000);
    }

    #[test]
    #[should_panic(expected = "does not fit the address space")]
    fn a_length_whose_bytes_wrap_is_refused() {
        Arc::new(Memory::default()).block::<f32>(usize::MAX / 4 + 2);
    }

    #[test]
    fn blocks_begin_at_cache_lines_and_keep_their_values() {
        let memory = Arc::new(Memory::default());
        let mut blocks: Vec<Block<f32>> = (0..200).map(|i| memory.block(i * i)).collect();
        for round in 0..3 {
            for (i, block) in blocks.iter_mut().enumerate() {
                assert!(block.is_empty() || (block.as_ptr() as usize).is_multiple_of(64));
                block.fill((1000 * round + i) as f32);
            }
            for (i, block) in blocks.iter().enumerate() {
                assert!(block.iter().all(|&v| v == (1000 * round + i) as f32), "block {i}");
            }
            // New neighbors for those that stay.
            for i in (round..200).step_by(3) {
                blocks[i] = memory.block((i * 37) % 5000);
            }
        }
        let held = memory.reserved();
        drop(blocks);
        let again: Vec<Block<f32>> = (0..200).map(|i| memory.block(i * i)).collect();
        assert_eq!(memory.reserved(), held);
        drop(again);
    }
}
