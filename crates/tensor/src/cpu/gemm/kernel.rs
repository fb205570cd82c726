//! The micro-kernel behind every product and convolution: six rows times one cache line of columns, or eight times two
//! lines where a register holds a whole one.
//!
//! It computes `c[r, j] (+)= Σ_k a[r, k] b[k, j]` where the rows of `a` may lie anywhere in a buffer and a row is read in
//! runs, so that the pixels below the taps of a convolution are multiplied where they lie, without a copy for each tap:
//!
//! `c[rows[r].c + j] (+)= Σ_run Σ_{i < run.len} a[rows[r].a + run.a + i·step] · b[k(run, i)·LANES + j]`,
//!
//! with `k(run, i)` counting through all runs.
use super::element::Element;
use super::vector::{Vector, portable};

/// One row of a product: where it starts in `a` and in `c`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub(crate) a: usize,
    pub(crate) c: usize,
}

/// A stretch of the summation index: where it starts in a row of `a`, and how long it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) a: usize,
    pub(crate) len: usize,
}

/// Panels that a product may take at once.
pub(crate) const PANELS: usize = 2;

/// A product of some rows with one packed panel of columns, or two.
pub(crate) struct Block<'a, T> {
    pub(crate) level: Level,
    pub(crate) a: &'a [T],
    /// Distance in `a` between neighbors in a run.
    pub(crate) step: usize,
    pub(crate) rows: &'a [Row],
    pub(crate) runs: &'a [Run],
    /// A panel: `LANES` elements for each value of the summation index.
    pub(crate) b: &'a [T],
    /// Where in `b` the second panel begins, if there is one.
    pub(crate) pitch: usize,
    /// How many columns are wanted: at most `LANES` of one panel, or more of two.
    pub(crate) width: usize,
    /// Whether the product is added to what `c` holds.
    pub(crate) add: bool,
}

/// Which instructions the processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// With AVX2 and FMA. The same sums in the same order, so that results have the same bits as with [`Level::Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Default for Level {
    /// What this processor can do best.
    fn default() -> Level {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return if is_x86_feature_detected!("avx512f") { Level::Avx512 } else { Level::Avx2 };
        }
        Level::Portable
    }
}

impl Level {
    /// Every one that this processor has, the best first.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Level> {
        match Level::default() {
            Level::Portable => vec![Level::Portable],
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => vec![Level::Avx2, Level::Portable],
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => vec![Level::Avx512, Level::Avx2, Level::Portable],
        }
    }
}

/// Rows of a register tile: with two vectors a row, twelve sums are in flight, which hides the latency of FMA.
pub(crate) const ROWS: usize = 6;

pub(crate) fn multiply_f32(block: &Block<'_, f32>, c: &mut [f32]) {
    check(block, c);
    match block.level {
        // SAFETY: `check` has proved every index in range.
        Level::Portable => unsafe { six::<portable::Single>(block, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; `Level::Avx2` exists only where AVX2 and FMA were detected.
        Level::Avx2 => unsafe { avx2::tiles_f32(block, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; `Level::Avx512` exists only where AVX-512F was detected.
        Level::Avx512 => unsafe { avx512::tiles_f32(block, c) },
    }
}

pub(crate) fn multiply_f64(block: &Block<'_, f64>, c: &mut [f64]) {
    check(block, c);
    match block.level {
        // SAFETY: `check` has proved every index in range.
        Level::Portable => unsafe { six::<portable::Double>(block, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; `Level::Avx2` exists only where AVX2 and FMA were detected.
        Level::Avx2 => unsafe { avx2::tiles_f64(block, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; `Level::Avx512` exists only where AVX-512F was detected.
        Level::Avx512 => unsafe { avx512::tiles_f64(block, c) },
    }
}

/// Proves that the tiles below stay inside the three slices.
fn check<T: Element>(block: &Block<'_, T>, c: &[T]) {
    let (mut a_end, mut depth) = (0, 0);
    for run in block.runs.iter().filter(|run| run.len > 0) {
        a_end = a_end.max(run.a + (run.len - 1) * block.step + 1);
        depth += run.len;
    }
    let (mut a_last, mut c_last) = (0, 0);
    for row in block.rows {
        a_last = a_last.max(row.a);
        c_last = c_last.max(row.c);
    }
    assert!((1..=PANELS * T::LANES).contains(&block.width), "the panels are narrower");
    let last = if block.width > T::LANES { block.pitch } else { 0 };
    assert!(last + depth * T::LANES <= block.b.len(), "a panel is too short");
    if !block.rows.is_empty() {
        assert!(a_last + a_end <= block.a.len(), "a row of the left factor leaves its buffer");
        assert!(c_last + block.width <= c.len(), "a row of the product leaves its buffer");
    }
}

/// All rows in tiles of the heights that are listed, each as often as it fits; the last is 1.
macro_rules! tiles {
    ($block:expr, $panel:expr, $c:expr, $vector:ty, $columns:literal, [$($height:literal),*]) => {{
        let (rest, c) = ($block.rows, $c.as_mut_ptr());
        $(
            let (tiles, rest) = rest.as_chunks::<$height>();
            for rows in tiles {
                // SAFETY: the caller has had the block checked, and these are rows of it.
                unsafe { tile::<$vector, $height, $columns>($block, $panel, rows, c) };
            }
        )*
        debug_assert!(rest.is_empty());
    }};
}

/// One panel after the other, with two vectors a line: all rows, six at a time.
///
/// # Safety
/// `check` has accepted the arguments, and the processor has the instructions of `V`.
#[inline(always)]
unsafe fn six<V: Vector>(block: &Block<'_, V::Scalar>, c: &mut [V::Scalar]) {
    for first in (0..block.width).step_by(2 * V::LEN) {
        let width = (block.width - first).min(2 * V::LEN);
        let panel = Panel { b: if first == 0 { 0 } else { block.pitch }, apart: V::LEN, first, width };
        tiles!(block, &panel, c, V, 2, [6, 5, 4, 3, 2, 1]);
    }
}

/// Both panels at once, with one vector a line: all rows, eight at a time. More rows would run out of registers for their
/// addresses.
///
/// # Safety
/// As for [`six`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn eight<V: Vector>(block: &Block<'_, V::Scalar>, c: &mut [V::Scalar]) {
    let panel = Panel { b: 0, apart: block.pitch, first: 0, width: block.width };
    if block.width > V::LEN {
        tiles!(block, &panel, c, V, 2, [8, 7, 6, 5, 4, 3, 2, 1]);
    } else {
        tiles!(block, &panel, c, V, 1, [8, 7, 6, 5, 4, 3, 2, 1]);
    }
}

/// The columns of a tile.
struct Panel {
    /// Where in `b` its first vector is.
    b: usize,
    /// How far behind it the second is.
    apart: usize,
    /// The first column.
    first: usize,
    /// How many are wanted.
    width: usize,
}

/// # Safety
/// `rows` are rows of `block`, which `check` has accepted together with the buffer behind `c`.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const C: usize>(
    block: &Block<'_, V::Scalar>,
    panel: &Panel,
    rows: &[Row; R],
    c: *mut V::Scalar,
) {
    let mut sums = [[V::zero(); C]; R];
    // SAFETY: every offset below is at most the one that `check` has compared with the length of its buffer.
    unsafe {
        let base: [*const V::Scalar; R] = std::array::from_fn(|r| block.a.as_ptr().add(rows[r].a));
        let c = c.add(panel.first);
        for row in rows {
            V::prefetch(c.add(row.c));
            V::prefetch(c.add(row.c + panel.width - 1));
        }
        let mut b = block.b.as_ptr().add(panel.b);
        for run in block.runs {
            let mut at = run.a;
            for _ in 0..run.len {
                let line: [V; C] = std::array::from_fn(|i| V::load(b.add(i * panel.apart)));
                for (sums, base) in sums.iter_mut().zip(base) {
                    let a = V::splat(base.add(at));
                    for (sum, b) in sums.iter_mut().zip(line) {
                        *sum = a.multiply_add(b, *sum);
                    }
                }
                at += block.step;
                b = b.add(V::Scalar::LANES);
            }
        }
        if panel.width < C * V::LEN {
            return narrow::<V, R, C>(panel.width, block.add, rows, sums, c);
        }
        for (row, sums) in rows.iter().zip(sums) {
            for (i, sum) in sums.into_iter().enumerate() {
                let to = c.add(row.c + i * V::LEN);
                let sum = if block.add { V::load(to).add(sum) } else { sum };
                sum.store(to);
            }
        }
    }
}

/// Writes the wanted columns of a tile. It gets the sums by value, so that those in the caller can live in registers.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn narrow<V: Vector, const R: usize, const C: usize>(
    width: usize,
    add: bool,
    rows: &[Row; R],
    sums: [[V; C]; R],
    c: *mut V::Scalar,
) {
    for (row, sums) in rows.iter().zip(sums) {
        let mut line = [V::Scalar::default(); 32];
        // SAFETY: `line` has room for a line of every panel, and `check` has compared the wanted columns with the length of
        // `c`.
        unsafe {
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(line.as_mut_ptr().add(i * V::LEN));
            }
            for (j, sum) in line.iter().enumerate().take(width) {
                let to = c.add(row.c + j);
                *to = if add { *to + *sum } else { *sum };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::super::vector::avx2::{Double, Single};
    use super::{Block, six};

    /// # Safety
    /// The processor has AVX2 and FMA, and `check` has accepted the arguments.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tiles_f32(block: &Block<'_, f32>, c: &mut [f32]) {
        // SAFETY: as for this function.
        unsafe { six::<Single>(block, c) }
    }

    /// # Safety
    /// The processor has AVX2 and FMA, and `check` has accepted the arguments.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tiles_f64(block: &Block<'_, f64>, c: &mut [f64]) {
        // SAFETY: as for this function.
        unsafe { six::<Double>(block, c) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::super::vector::avx512::{Double, Single};
    use super::{Block, eight};

    /// # Safety
    /// The processor has AVX-512F, and `check` has accepted the arguments.
    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) unsafe fn tiles_f32(block: &Block<'_, f32>, c: &mut [f32]) {
        // SAFETY: as for this function.
        unsafe { eight::<Single>(block, c) }
    }

    /// # Safety
    /// The processor has AVX-512F, and `check` has accepted the arguments.
    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) unsafe fn tiles_f64(block: &Block<'_, f64>, c: &mut [f64]) {
        // SAFETY: as for this function.
        unsafe { eight::<Double>(block, c) }
    }
}
