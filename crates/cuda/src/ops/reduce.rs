//! Sums and extremes over the middle axis of `(outer, extent, inner)`.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::launch::THREADS;
use crate::ops::sizes::size;
use std::sync::Arc;
use tarrl_tensor::{Array, Extreme, Split};

/// Axes up to this extent are summed by one thread for each result.
const SHORT: usize = 32;

/// Columns and lines of a block that sums columns, as in `block.cuh`.
pub(crate) const COLUMNS: usize = 32;
pub(crate) const LINES: usize = 8;

pub(crate) fn sum(gpu: &Arc<Gpu>, x: &Array, split: Split) -> Block {
    let op = "sum";
    let element = Element::real(op, x.dtype());
    let Split { outer, extent, inner } = split;
    let results = outer * inner;
    let to = gpu.block(op, results * size(x.dtype()));
    let x = read(gpu, op, x);
    if extent <= SHORT {
        let launch = gpu.launch("sum_short", element).arg(x).arg(&to);
        launch.arg(results).arg(extent).arg(inner).over(results);
        return to;
    }
    let piece = if inner == 1 { piece(extent, 16 * THREADS) } else { piece(extent, 512) };
    let pieces = extent.div_ceil(piece);
    let partial = gpu.block(op, pieces * results * 8);
    if inner == 1 {
        let launch = gpu.launch("sum_rows", element).arg(x).arg(&partial);
        launch.arg(outer).arg(extent).arg(piece).run([outer, pieces], [line(extent), 1]);
    } else {
        let strips = inner.div_ceil(COLUMNS);
        let launch = gpu.launch("sum_columns", element).arg(x).arg(&partial).arg(outer).arg(extent);
        launch.arg(inner).arg(piece).run([outer * strips, pieces], [COLUMNS, LINES]);
    }
    let launch = gpu.launch("sum_pieces", element).arg(&partial).arg(&to).arg(results).arg(pieces);
    launch.run([results.div_ceil(COLUMNS), 1], [COLUMNS, LINES]);
    to
}

pub(crate) fn arg_extreme(gpu: &Arc<Gpu>, x: &Array, split: Split, which: Extreme, flat: bool) -> Block {
    let op = "argmax";
    let element = Element::real(op, x.dtype());
    let Split { outer, extent, inner } = split;
    let results = outer * inner;
    let to = gpu.block(op, results * 4);
    let sign = match which {
        Extreme::Max => 1.0,
        Extreme::Min => -1.0,
    };
    let x = read(gpu, op, x);
    if extent <= SHORT {
        let launch = gpu.launch("extreme_short", element).arg(x).arg(&to).arg(results).arg(extent).arg(inner);
        launch.arg(sign).arg(flat).over(results);
    } else {
        let launch = gpu.launch("extreme_long", element).arg(x).arg(&to).arg(extent).arg(inner);
        launch.arg(sign).arg(flat).run([results, 1], [line(extent), 1]);
    }
    to
}

/// The length of a piece: at least `least`, and so long that there are at most 256. It depends on the shape alone, and
/// with it the order of the sum.
pub(crate) fn piece(extent: usize, least: usize) -> usize {
    extent.div_ceil(256).max(least)
}

/// Threads of a block that runs along `extent` elements: a power of two.
pub(crate) fn line(extent: usize) -> usize {
    extent.next_power_of_two().clamp(32, THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduction_pieces_cover_the_axis() {
        for extent in [33, 512, 513, 100_000, 10_000_000] {
            let piece = piece(extent, 512);
            let pieces = extent.div_ceil(piece);
            assert!(pieces <= 256 && pieces * piece >= extent && (pieces - 1) * piece < extent, "{extent}");
        }
        assert_eq!([1, 33, 300].map(line), [32, 64, 256]);
    }
}
