//! Stretches of a few large slabs: the first free one that fits, joined with its neighbours when it comes back.
//!
//! First fit keeps what is used together at the front, so that pages at the end of a slab are never touched and cost
//! nothing. Kernels of one step ask in the same order every time, and so find the same room.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::NonNull;

/// Stretches begin and end at cache lines.
const LINE: usize = 64;

/// Slabs that nobody uses return to the system while more than this many bytes stay.
const KEEP: usize = 3 << 29;

/// Memory cut into stretches of any length.
#[derive(Debug)]
pub(super) struct Arena {
    slabs: Vec<Slab>,
    /// Bytes of the first slab. Later ones are as large as half of all before them.
    first: usize,
}

#[derive(Debug)]
struct Slab {
    /// What the system gave, and where its first whole line is.
    base: NonNull<u8>,
    layout: Layout,
    start: usize,
    bytes: usize,
    /// Free stretches by offset from `start`; no two touch.
    free: BTreeMap<usize, usize>,
}

// SAFETY: a slab is plain memory; whoever has the arena has it alone.
unsafe impl Send for Slab {}

impl Arena {
    pub(super) fn new(first: usize) -> Arena {
        Arena { slabs: Vec::new(), first }
    }

    /// `bytes` bytes at the start of a cache line, zero or what their last user left.
    pub(super) fn take(&mut self, bytes: usize) -> NonNull<u8> {
        let bytes = rounded(bytes);
        if let Some(found) = self.slabs.iter_mut().find_map(|slab| slab.take(bytes)) {
            return found;
        }
        let slab = Slab::new(bytes.max(self.first).max(self.reserved() / 2).next_multiple_of(LINE));
        self.slabs.push(slab);
        self.slabs
            .last_mut()
            .and_then(|slab| slab.take(bytes))
            .expect("a new slab has the room that it was made for")
    }

    /// Takes back what [`Arena::take`] gave for as many bytes.
    pub(super) fn give(&mut self, data: NonNull<u8>, bytes: usize) {
        let address = data.as_ptr() as usize;
        let at = self.slabs.iter().position(|slab| slab.contains(address)).expect("a stretch of this arena");
        self.slabs[at].give(address, rounded(bytes));
        if self.slabs[at].is_idle() && self.reserved() - self.slabs[at].bytes >= KEEP {
            self.slabs.swap_remove(at);
        }
    }

    /// Bytes of all slabs.
    pub(super) fn reserved(&self) -> usize {
        self.slabs.iter().map(|slab| slab.bytes).sum()
    }
}

fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(LINE)
}

impl Slab {
    fn new(bytes: usize) -> Slab {
        // Of small alignment, so that zeroed pages come from the system untouched.
        let layout =
            Layout::from_size_align(bytes + LINE, 16).expect("memory for arrays fits the address space");
        // SAFETY: the layout is not empty.
        let Some(base) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let start = (base.as_ptr() as usize).next_multiple_of(LINE);
        Slab { base, layout, start, bytes, free: BTreeMap::from([(0, bytes)]) }
    }

    fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let (&at, &len) = self.free.iter().find(|(_, len)| **len >= bytes)?;
        self.free.remove(&at);
        if len > bytes {
            self.free.insert(at + bytes, len - bytes);
        }
        let offset = self.start - self.base.as_ptr() as usize + at;
        // SAFETY: the stretch lies in the slab.
        Some(unsafe { self.base.add(offset) })
    }

    fn give(&mut self, address: usize, mut bytes: usize) {
        let mut at = address - self.start;
        if let Some(len) = self.free.remove(&(at + bytes)) {
            bytes += len;
        }
        if let Some((&before, &len)) = self.free.range(..at).next_back()
            && before + len == at
        {
            self.free.remove(&before);
            (at, bytes) = (before, bytes + len);
        }
        self.free.insert(at, bytes);
    }

    fn contains(&self, address: usize) -> bool {
        (self.start..self.start + self.bytes).contains(&address)
    }

    fn is_idle(&self) -> bool {
        self.free.get(&0) == Some(&self.bytes)
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout. Blocks keep their arena alive, so nobody uses it.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However stretches come and go, those in use never overlap, and at the end all room is one again.
        #[test]
        fn stretches_never_overlap(orders in prop::collection::vec((0usize..20, 0usize..5000), 1..200)) {
            let mut arena = Arena::new(1 << 12);
            let mut used: Vec<Option<(NonNull<u8>, usize)>> = vec![None; 20];
            for (place, bytes) in orders {
                match used[place].take() {
                    Some((data, bytes)) => arena.give(data, bytes),
                    None => used[place] = Some((arena.take(bytes), bytes)),
                }
                let mut ranges: Vec<(usize, usize)> =
                    used.iter().flatten().map(|(data, bytes)| (data.as_ptr() as usize, *bytes)).collect();
                ranges.sort();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
                prop_assert!(ranges.iter().all(|(at, bytes)| arena
                    .slabs
                    .iter()
                    .any(|slab| slab.contains(*at) && at + bytes <= slab.start + slab.bytes)));
            }
            used.into_iter().flatten().for_each(|(data, bytes)| arena.give(data, bytes));
            prop_assert!(arena.slabs.iter().all(Slab::is_idle));
        }
    }
}
