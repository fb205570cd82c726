//! Matrix products `C = op(A) op(B)`, the same bits for any number of threads.
mod element;
pub(crate) mod kernel;
mod scratch;
pub(crate) mod vector;

pub(crate) use element::Element;
pub use scratch::Arithmetic;
pub(crate) use scratch::Scratch;

use super::threads::Threads;
use kernel::{Block, ROWS, Row, Run};

/// The product `c (m, n) = op(a) op(b)` with a sum over `k`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    /// Rows of `c`.
    pub(crate) m: usize,
    /// Columns of `c`.
    pub(crate) n: usize,
    /// Length of each sum.
    pub(crate) k: usize,
    /// `a` is stored as `(k, m)` instead of `(m, k)`.
    pub(crate) ta: bool,
    /// `b` is stored as `(n, k)` instead of `(k, n)`.
    pub(crate) tb: bool,
}

/// Single precision; overwrites `c`. Panics if a slice does not have the length that `p` says.
#[track_caller]
pub(crate) fn gemm_f32(t: &Threads, p: &Product, a: &[f32], b: &[f32], c: &mut [f32], s: &Scratch) {
    gemm(t, p, a, b, c, s);
}

/// Double precision; overwrites `c`. Panics if a slice does not have the length that `p` says.
#[track_caller]
pub(crate) fn gemm_f64(t: &Threads, p: &Product, a: &[f64], b: &[f64], c: &mut [f64], s: &Scratch) {
    gemm(t, p, a, b, c, s);
}

/// Terms of a sum that are taken at once: a block of a panel (16 KiB) stays in the first-level cache.
pub(crate) const DEPTH: usize = 256;

/// Rows of `c` in a chunk at most: their block of `a` (192 KiB) stays in the second-level cache.
const MAX_ROWS: usize = 192;

#[track_caller]
fn gemm<T: Element>(t: &Threads, p: &Product, a: &[T], b: &[T], c: &mut [T], s: &Scratch) {
    let Product { m, n, k, ta, tb } = *p;
    assert!(
        a.len() == m * k && b.len() == k * n && c.len() == m * n,
        "gemm: lengths {}, {}, {} do not fit {p:?}",
        a.len(),
        b.len(),
        c.len()
    );
    if c.is_empty() {
        return;
    }
    if k == 0 {
        return c.fill(T::default());
    }
    let t = t.worth(m * n * k);
    let panels = n.div_ceil(T::LANES);
    let mut packed = s.take::<T>(panels * k * T::LANES);
    let per_panel = k * T::LANES;
    let panels_at_once = (1usize << 14).div_ceil(per_panel);
    t.for_each_chunk(&mut packed, panels_at_once * per_panel, |i, chunk| {
        for (j, panel) in chunk.chunks_exact_mut(per_panel).enumerate() {
            let first = (i * panels_at_once + j) * T::LANES;
            let width = T::LANES.min(n - first);
            let (inner, outer) = if tb { (1, k) } else { (n, 1) };
            pack_panel(panel, &b[first * outer..], Strides { k: inner, j: outer }, width);
        }
    });
    let rows_at_once = (m / 4).min(MAX_ROWS / 2).max(m / 8).next_multiple_of(ROWS).clamp(2 * ROWS, MAX_ROWS);
    // A copy of the left factor pays when many panels read it.
    let copy = panels > 4;
    let (row_step, step) = if ta { (1, m) } else { (k, 1) };
    let per_thread = if copy { rows_at_once * DEPTH } else { 0 };
    let mut left = s.take::<T>(per_thread * t.count());
    let mut rows = s.rows(rows_at_once);
    for (r, row) in rows.iter_mut().enumerate() {
        let a = if copy { r / ROWS * (ROWS * DEPTH) + r % ROWS } else { r * row_step };
        *row = Row { a, c: r * n };
    }
    let workspaces = parts(&mut left, per_thread);
    t.for_each_item_with(workspaces, c.chunks_mut(rows_at_once * n).enumerate(), |left, (i, c)| {
        let a = &a[i * rows_at_once * row_step..];
        let rows = &rows[..c.len() / n];
        for first in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - first);
            if copy {
                pack_left(left, &a[first * step..], Strides { k: step, j: row_step }, rows.len(), depth);
            }
            for panel in 0..panels {
                let at = panel * per_panel + first * T::LANES;
                let block = Block {
                    level: s.level,
                    a: if copy { left } else { a },
                    step: if copy { ROWS } else { step },
                    rows,
                    runs: &[Run { a: if copy { 0 } else { first * step }, len: depth }],
                    b: &packed[at..at + depth * T::LANES],
                    width: T::LANES.min(n - panel * T::LANES),
                    add: first > 0,
                };
                T::multiply(&block, &mut c[panel * T::LANES..]);
            }
        }
    });
}

/// Cuts a buffer into parts of `size`, as many empty ones as needed if `size` is 0.
pub(crate) fn parts<T>(mut buffer: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    std::iter::from_fn(move || Some(buffer.split_off_mut(..size).expect("a part for each thread")))
}

/// Distances between neighbours: along the sum, and along the rows or columns.
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

/// `left[r / 6][k][r % 6] = from[k·strides.k + r·strides.j]`, each group of six rows `DEPTH` deep. One of the strides is 1.
fn pack_left<T: Element>(left: &mut [T], from: &[T], strides: Strides, rows: usize, depth: usize) {
    for (i, group) in left.chunks_exact_mut(ROWS * DEPTH).enumerate().take(rows.div_ceil(ROWS)) {
        let first = i * ROWS;
        let width = ROWS.min(rows - first);
        let from = &from[first * strides.j..];
        let lines = group.as_chunks_mut::<ROWS>().0.iter_mut().enumerate().take(depth);
        if strides.j == 1 && width == ROWS {
            lines.for_each(|(k, line)| line.copy_from_slice(&from[k * strides.k..][..ROWS]));
        } else if strides.j == 1 {
            lines.for_each(|(k, line)| line[..width].copy_from_slice(&from[k * strides.k..][..width]));
        } else {
            let row = |r: usize| &from[r.min(width - 1) * strides.j..][..depth];
            let rows: [&[T]; ROWS] = std::array::from_fn(row);
            lines.for_each(|(k, line)| *line = std::array::from_fn(|r| rows[r][k]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::kernel::Level;
    use super::*;

    fn products() -> Vec<Product> {
        let sizes = [
            (1, 1, 1),
            (6, 16, 4),
            (7, 17, 300),
            (200, 5, 33),
            (64, 100, 64),
            (13, 130, 257),
            (3, 3, 0),
            (0, 3, 3),
        ];
        let transposed = [(false, false), (true, false), (false, true), (true, true)];
        sizes.iter().flat_map(|&(m, n, k)| transposed.map(|(ta, tb)| Product { m, n, k, ta, tb })).collect()
    }

    /// Multiples of 1/8 that repeat with an odd period: with sums this short every product below is exact.
    fn factor<T: From<f32>>(len: usize, period: usize) -> Vec<T> {
        (0..len).map(|i| T::from((i * 7 % period) as f32 / 8.0 - 1.0)).collect()
    }

    fn reference(p: &Product, a: &[f64], b: &[f64]) -> Vec<f64> {
        let a = |i: usize, l: usize| if p.ta { a[l * p.m + i] } else { a[i * p.k + l] };
        let b = |l: usize, j: usize| if p.tb { b[j * p.k + l] } else { b[l * p.n + j] };
        let entry = |i: usize| (0..p.k).map(|l| a(i / p.n, l) * b(l, i % p.n)).sum();
        (0..p.m * p.n).map(entry).collect()
    }

    #[test]
    fn products_of_short_fractions_are_exact_for_any_threads_and_on_any_processor() {
        for count in [1, 2, 3] {
            let threads = Threads::new(count);
            for level in [Level::default(), Level::Portable] {
                let scratch = Scratch { level, ..Scratch::default() };
                for p in products() {
                    let want = reference(&p, &factor(p.m * p.k, 17), &factor(p.k * p.n, 19));
                    let mut single = vec![f32::NAN; p.m * p.n];
                    gemm_f32(
                        &threads,
                        &p,
                        &factor(p.m * p.k, 17),
                        &factor(p.k * p.n, 19),
                        &mut single,
                        &scratch,
                    );
                    assert!(single.iter().zip(&want).all(|(&got, &want)| f64::from(got) == want), "{p:?}");
                    let mut double = vec![f64::NAN; p.m * p.n];
                    gemm_f64(
                        &threads,
                        &p,
                        &factor(p.m * p.k, 17),
                        &factor(p.k * p.n, 19),
                        &mut double,
                        &scratch,
                    );
                    assert_eq!(double, want, "{p:?}");
                }
            }
        }
    }

    #[test]
    fn sums_round_in_the_same_order_for_any_number_of_threads() {
        let pools = [1, 2, 3].map(Threads::new);
        for p in products() {
            let noise = |len: usize, seed: usize| -> Vec<f32> {
                (0..len).map(|i| ((i * 2654435761 + seed) % 1009) as f32 / 1009.0 - 0.37).collect()
            };
            let (a, b) = (noise(p.m * p.k, 3), noise(p.k * p.n, 5));
            let [one, two, three] = [0, 1, 2].map(|i| {
                let mut c = vec![f32::NAN; p.m * p.n];
                gemm_f32(&pools[i], &p, &a, &b, &mut c, &Scratch::default());
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert!(one == two && two == three, "{p:?}");
        }
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn wrong_lengths_are_refused() {
        let p = Product { m: 2, n: 2, k: 2, ..Product::default() };
        gemm_f32(&Threads::new(1), &p, &[0.0; 4], &[0.0; 4], &mut [0.0; 3], &Scratch::default());
    }
}
