//! Kernel launches: arguments, grid and block.

use crate::driver::Block;
use crate::gpu::Gpu;
use crate::kernels::Element;
use cudarc::driver::result;
use std::ffi::c_void;

/// Threads of a block at most; kernels are compiled for so many.
pub(crate) const THREADS: usize = 256;

/// Blocks of an elementwise kernel for each multiprocessor at most; the threads go on to further elements.
const WAVES: usize = 16;

/// A kernel with the arguments that have been given so far.
///
/// Nothing checks the arguments against the kernel's parameters: every call stands in the file of this crate that is
/// named like the kernel's file, and the conformance suite runs them all.
pub(crate) struct Launch<'a> {
    gpu: &'a Gpu,
    kernel: &'static str,
    element: Element,
    words: Vec<u64>,
    starts: Vec<usize>,
}

impl Gpu {
    pub(crate) fn launch(&self, kernel: &'static str, element: Element) -> Launch<'_> {
        Launch { gpu: self, kernel, element, words: Vec::with_capacity(16), starts: Vec::with_capacity(16) }
    }
}

impl Launch<'_> {
    pub(crate) fn arg(mut self, value: impl Argument) -> Self {
        self.starts.push(self.words.len());
        value.push(&mut self.words);
        self
    }

    /// Runs with at least one thread for each of `n` elements, or so many that they loop; not at all for none.
    #[track_caller]
    pub(crate) fn over(self, n: usize) {
        if n == 0 {
            return;
        }
        // Few elements take few threads, in whole warps.
        let threads = n.next_multiple_of(32).min(THREADS);
        let blocks = n.div_ceil(threads).min(WAVES * self.gpu.facts.processors);
        self.run([blocks, 1], [threads, 1]);
    }

    /// As [`over`](Launch::over) of kernels that take a pack of elements at a time.
    #[track_caller]
    pub(crate) fn over_packs(self, n: usize) {
        let lanes = self.element.lanes();
        // The elements behind the last pack, fewer than a pack, are taken by the first threads.
        self.over(if n == 0 { 0 } else { (n / lanes).max(lanes) });
    }

    /// Runs `grid` blocks of `block` threads; not at all for none.
    #[track_caller]
    pub(crate) fn run(mut self, grid: [usize; 2], block: [usize; 2]) {
        if grid.contains(&0) {
            return;
        }
        let Launch { gpu, kernel, element, .. } = self;
        assert!(block[0] * block[1] <= THREADS && grid[1] <= 65535, "{kernel}: grid {grid:?} of {block:?}");
        let function = gpu.function(kernel, element);
        let words = self.words.as_mut_ptr();
        let mut pointers: Vec<*mut c_void> =
            // SAFETY: every start lies inside the words, which live until the launch has returned.
            self.starts.iter().map(|&start| unsafe { words.add(start) }.cast()).collect();
        gpu.expect(kernel, gpu.context.bind_to_thread());
        let [x, y] = grid.map(|n| u32::try_from(n).expect("a grid has fewer than 2^32 blocks"));
        let [columns, lines] = block.map(|n| n as u32);
        let guard = gpu.stream_guard();
        // SAFETY: the callers of this crate give every kernel the arguments of its definition, over blocks of at
        // least the lengths that it runs over; all memory was allocated on this stream.
        let queued = unsafe {
            result::launch_kernel(
                function.cu_function(),
                (x, y, 1),
                (columns, lines, 1),
                0,
                gpu.stream.cu_stream(),
                &mut pointers,
            )
        };
        drop(guard);
        gpu.expect(kernel, queued);
    }
}

/// An argument of a kernel, as whole words of eight bytes; a kernel reads as many of them as its parameter has.
pub(crate) trait Argument {
    fn push(self, words: &mut Vec<u64>);
}

/// Memory.
impl Argument for &Block {
    fn push(self, words: &mut Vec<u64>) {
        words.push(self.pointer());
    }
}

/// `unsigned int`: an extent or an index.
impl Argument for usize {
    fn push(self, words: &mut Vec<u64>) {
        assert!(self < 1 << 31, "an array on a GPU has fewer than 2^31 elements, here {self}");
        words.push(self as u64);
    }
}

/// `unsigned int`: 0 or 1.
impl Argument for bool {
    fn push(self, words: &mut Vec<u64>) {
        words.push(u64::from(self));
    }
}

/// `double`
impl Argument for f64 {
    fn push(self, words: &mut Vec<u64>) {
        words.push(self.to_bits());
    }
}

/// A pointer, or `unsigned long long`.
impl Argument for u64 {
    fn push(self, words: &mut Vec<u64>) {
        words.push(self);
    }
}

/// A structure of `unsigned int`.
impl<const N: usize> Argument for [usize; N] {
    fn push(self, words: &mut Vec<u64>) {
        for pair in self.chunks(2) {
            let half =
                |i: usize| u64::from(u32::try_from(pair.get(i).copied().unwrap_or(0)).expect("below 2^32"));
            words.push(half(0) | half(1) << 32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_packed_as_the_compiler_packs_structures() {
        let mut words = Vec::new();
        [1usize, 2, 3].push(&mut words);
        assert_eq!(words, [1 | 2 << 32, 3]);
        assert_eq!(words[0].to_le_bytes()[..4], 1u32.to_le_bytes());
    }

    #[test]
    #[should_panic(expected = "fewer than 2^31 elements")]
    fn arrays_that_indices_cannot_reach_are_refused() {
        (1usize << 31).push(&mut Vec::new());
    }
}
