//! The micro-kernel under the convolutions: blocks of panels, packed and multiplied in a fixed order.
mod element;
pub(crate) mod kernel;
mod scratch;
pub(crate) mod vector;

pub(crate) use element::Element;
pub use scratch::Arithmetic;
pub(crate) use scratch::Scratch;

/// Terms of a sum that are taken at once: a block of a panel (16 KiB) stays in the first-level cache.
pub(crate) const DEPTH: usize = 256;

/// The instructions that products are computed with.
pub(crate) fn level() -> &'static str {
    match kernel::Level::default() {
        kernel::Level::Portable => "portable",
        #[cfg(target_arch = "x86_64")]
        kernel::Level::Avx2 => "AVX2 and FMA",
        #[cfg(target_arch = "x86_64")]
        kernel::Level::Avx512 => "AVX-512",
    }
}

/// Cuts a buffer into parts of `size`, as many empty ones as needed if `size` is 0.
pub(crate) fn parts<T>(mut buffer: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    std::iter::from_fn(move || Some(buffer.split_off_mut(..size).expect("a part for each thread")))
}

/// Distances between neighbors: along the sum, and along the rows or columns.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    pub(crate) k: usize,
    pub(crate) j: usize,
}

/// `panel[k, j] = from[k·strides.k + j·strides.j]` for `j < width`, zero for the other `j < LANES`.
pub(crate) fn pack_panel<T: Element>(panel: &mut [T], from: &[T], strides: Strides, width: usize) {
    if width < T::LANES {
        panel.fill(T::default());
    }
    let lines = panel.chunks_exact_mut(T::LANES).enumerate();
    if strides.j == 1 && width == T::LANES {
        // Of known length, and so without a call for each line.
        lines.for_each(|(k, line)| line.copy_from_slice(&from[k * strides.k..][..T::LANES]));
    } else if strides.j == 1 {
        lines.for_each(|(k, line)| line[..width].copy_from_slice(&from[k * strides.k..][..width]));
    } else {
        // Small squares, so that reads and writes both stay within few cache lines.
        for (i, square) in panel.chunks_mut(16 * T::LANES).enumerate() {
            for j in 0..width {
                let column = &from[i * 16 * strides.k + j * strides.j..];
                for (k, line) in square.chunks_exact_mut(T::LANES).enumerate() {
                    line[j] = column[k * strides.k];
                }
            }
        }
    }
}
