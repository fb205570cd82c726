//! Pooling of `(n, h, w, c)`.

use super::memory::Block;
use super::pointwise::Env;
use super::real::Real;
use super::wide::wide;
use crate::backend::PoolShape;

pub(super) fn sum_pool<R: Real>(env: &Env<'_>, x: &[R], s: &PoolShape) -> Block<R> {
    let mut out = env.memory.block(s.output().len());
    let image = s.out_h() * s.out_w() * s.c;
    env.threads.for_each_chunk(&mut out, image.max(1), |n, out| {
        for (at, y) in out.chunks_exact_mut(s.c).enumerate() {
            y.fill(R::ZERO);
            for from in window(s, n, at / s.out_w(), at % s.out_w()) {
                for (y, &x) in y.iter_mut().zip(&x[from..]) {
                    *y += x;
                }
            }
        }
    });
    out
}

pub(super) fn sum_pool_adjoint<R: Real>(env: &Env<'_>, dy: &[R], s: &PoolShape) -> Block<R> {
    let mut out = env.memory.block(s.n * s.h * s.w * s.c);
    let image = s.h * s.w * s.c;
    let (oh, ow) = (s.out_h(), s.out_w());
    env.threads.for_each_chunk(&mut out, image.max(1), |n, dx| {
        dx.fill(R::ZERO);
        for at in 0..oh * ow {
            let dy = &dy[(n * oh * ow + at) * s.c..][..s.c];
            for to in window(s, n, at / ow, at % ow) {
                for (x, &d) in dx[to - n * image..].iter_mut().zip(dy) {
                    *x += d;
                }
            }
        }
    });
    out
}

/// Channels whose maxima are found together, in registers.
const TOGETHER: usize = 16;

pub(super) fn max_pool<R: Real>(env: &Env<'_>, x: &[R], s: &PoolShape) -> Block<u32> {
    let mut out = env.memory.block(s.output().len());
    let image = s.out_h() * s.out_w() * s.c;
    env.threads.for_each_chunk(&mut out, image.max(1), |n, out| {
        maxima(x, s, n, out);
    });
    out
}

wide! {
    /// The positions of the maxima of image `n`.
    fn maxima<R: Real>(x: &[R], s: &PoolShape, n: usize, out: &mut [u32]) {
        for (at, best) in out.chunks_exact_mut(s.c).enumerate() {
            let pixels = || window(s, n, at / s.out_w(), at % s.out_w());
            let (blocks, rest) = best.as_chunks_mut::<TOGETHER>();
            let whole = TOGETHER * blocks.len();
            for (i, best) in blocks.iter_mut().enumerate() {
                *best = first_largest(x, pixels().map(|pixel| pixel + i * TOGETHER));
            }
            for (i, best) in rest.iter_mut().enumerate() {
                [*best] = first_largest(x, pixels().map(|pixel| pixel + whole + i));
            }
        }
    }
}

/// For each of `N` neighboring channels the position of its first largest element, where channel 0 is at `at`.
#[inline(always)]
fn first_largest<R: Real, const N: usize>(x: &[R], mut at: impl Iterator<Item = usize>) -> [u32; N] {
    let first = at.next().expect("a window has pixels");
    let mut top: [R; N] = std::array::from_fn(|c| x[first + c]);
    // The winner as the start of its pixel: the same for all channels until the end.
    let mut winner = [first as u32; N];
    for pixel in at {
        let values = &x[pixel..pixel + N];
        for c in 0..N {
            let larger = values[c] > top[c];
            top[c] = if larger { values[c] } else { top[c] };
            winner[c] = if larger { pixel as u32 } else { winner[c] };
        }
    }
    std::array::from_fn(|c| winner[c] + c as u32)
}

/// Positions of the first channel of every pixel in a window, padding left out.
fn window(s: &PoolShape, n: usize, oy: usize, ox: usize) -> impl Iterator<Item = usize> + '_ {
    let rows = span(oy, s.pool, s.h);
    rows.flat_map(move |y| span(ox, s.pool, s.w).map(move |x| ((n * s.h + y) * s.w + x) * s.c))
}

fn span(o: usize, pool: crate::backend::Pool, extent: usize) -> std::ops::Range<usize> {
    let start = o * pool.stride;
    start.saturating_sub(pool.pad)..(start + pool.window).saturating_sub(pool.pad).min(extent)
}
