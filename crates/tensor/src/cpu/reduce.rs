//! Sums and extremes over the middle axis of `(outer, extent, inner)`.
//!
//! Sums run over fixed blocks, in f32 within a block of [`BLOCK`] terms and in f64 across blocks, so
//! they have the same bits for any number of threads and an error that does not grow with the length. The order depends on
//! `extent` and `inner` alone, so a sample's sum is the same whether it comes alone or with others.

use super::memory::Block;
use super::pointwise::Env;
use super::real::Real;
use crate::backend::Extreme;
use crate::shape::Split;

/// Terms that are added in the element type before the sum moves to f64.
const BLOCK: usize = 512;
/// Rows of one piece of a column sum.
const ROWS: usize = 1024;
/// Terms of one piece of a row's sum.
const PIECE: usize = ROWS * BLOCK;

pub(super) fn sum<R: Real>(env: &Env<'_>, x: &[R], s: Split) -> Block<R> {
    match s {
        Split { inner: 1, .. } => sum_rows(env, x, s),
        Split { outer: 1, .. } => sum_columns(env, x, s.extent, s.inner),
        _ => env.fill_rows(s.outer, s.inner, |first, out| {
            for (o, out) in out.chunks_exact_mut(s.inner).enumerate() {
                let slab = &x[(first + o) * s.extent * s.inner..][..s.extent * s.inner];
                slab_sums(slab, out);
            }
        }),
    }
}

pub(super) fn arg_extreme<R: Real>(
    env: &Env<'_>,
    x: &[R],
    s: Split,
    which: Extreme,
    flat: bool,
) -> Block<u32> {
    env.fill_rows(s.outer * s.inner, 1, |first, out| {
        for (i, out) in out.iter_mut().enumerate() {
            let (o, inner) = ((first + i) / s.inner, (first + i) % s.inner);
            let at = |e: usize| x[(o * s.extent + e) * s.inner + inner];
            let mut best = 0;
            for e in 1..s.extent {
                let better = match which {
                    Extreme::Max => at(e) > at(best),
                    Extreme::Min => at(e) < at(best),
                };
                if better {
                    best = e;
                }
            }
            *out = if flat { (o * s.extent + best) * s.inner + inner } else { best } as u32;
        }
    })
}

/// The sum of a slice.
#[inline(always)]
pub(super) fn total<R: Real>(x: &[R]) -> f64 {
    let mut sum = 0.0;
    for block in x.chunks(BLOCK) {
        sum += block_sum(block).f64();
    }
    sum
}

fn sum_rows<R: Real>(env: &Env<'_>, x: &[R], s: Split) -> Block<R> {
    if s.outer == 1 {
        let mut partial = env.memory.block::<f64>(s.extent.div_ceil(PIECE));
        env.threads.for_each_chunk(&mut partial, 1, |i, out| {
            out[0] = total(&x[i * PIECE..((i + 1) * PIECE).min(x.len())]);
        });
        let mut out = env.memory.block(1);
        out[0] = R::of(partial.iter().sum());
        return out;
    }
    env.fill_per_row(s.outer, s.extent, |first, out| {
        for (o, y) in out.iter_mut().enumerate() {
            let row = &x[(first + o) * s.extent..][..s.extent];
            *y = R::of(row.chunks(PIECE).map(total).sum());
        }
    })
}

/// Column sums of `(rows, width)`: fixed pieces of rows side by side, then the pieces in order.
fn sum_columns<R: Real>(env: &Env<'_>, x: &[R], rows: usize, width: usize) -> Block<R> {
    let pieces = rows.div_ceil(ROWS);
    let mut partial = env.memory.block::<R>(pieces * width);
    env.threads.for_each_chunk(&mut partial, width, |i, out| {
        column_sums(&x[i * ROWS * width..((i + 1) * ROWS * width).min(x.len())], out);
    });
    let mut out = env.memory.block(width);
    for (c, y) in out.iter_mut().enumerate() {
        *y = R::of((0..pieces).map(|i| partial[i * width + c].f64()).sum());
    }
    out
}

/// What [`sum_columns`] computes, by one thread.
fn slab_sums<R: Real>(slab: &[R], out: &mut [R]) {
    let width = out.len();
    if slab.len() <= ROWS * width {
        return column_sums(slab, out);
    }
    let mut sums = vec![0.0; width];
    for piece in slab.chunks(ROWS * width) {
        column_sums(piece, out);
        sums.iter_mut().zip(out.iter()).for_each(|(sum, y)| *sum += y.f64());
    }
    out.iter_mut().zip(sums).for_each(|(y, sum)| *y = R::of(sum));
}

/// Sums of the columns of a slab, in pairs of halves so that the error grows with the logarithm.
fn column_sums<R: Real>(slab: &[R], out: &mut [R]) {
    let width = out.len();
    let rows = slab.len() / width;
    if rows <= 32 {
        out.fill(R::ZERO);
        for row in slab.chunks_exact(width) {
            for (y, &x) in out.iter_mut().zip(row) {
                *y += x;
            }
        }
        return;
    }
    let (first, second) = slab.split_at(rows / 2 * width);
    column_sums(first, out);
    // Widths are those of channels; the copy lives on the stack for the usual ones.
    let mut stack = [R::ZERO; 512];
    let mut heap;
    let half = if width <= 512 {
        &mut stack[..width]
    } else {
        heap = vec![R::ZERO; width];
        &mut heap[..]
    };
    column_sums(second, half);
    for (y, &h) in out.iter_mut().zip(half.iter()) {
        *y += h;
    }
}

/// Sixteen running sums, so that the compiler can use vector registers.
#[inline(always)]
fn block_sum<R: Real>(x: &[R]) -> R {
    let mut lanes = [R::ZERO; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += x;
    }
    for step in [8, 4, 2, 1] {
        for i in 0..step {
            let other = lanes[i + step];
            lanes[i] += other;
        }
    }
    lanes[0]
}
