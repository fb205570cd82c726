//! The micro-kernel behind every product and convolution: six rows times one cache line of columns.
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

/// A product of some rows with one packed panel of columns.
pub(crate) struct Block<'a, T> {
    pub(crate) level: Level,
    pub(crate) a: &'a [T],
    /// Distance in `a` between neighbours in a run.
    pub(crate) step: usize,
    pub(crate) rows: &'a [Row],
    pub(crate) runs: &'a [Run],
    /// A panel: `LANES` elements for each value of the summation index.
    pub(crate) b: &'a [T],
    /// How many columns of the panel are wanted, at most `LANES`.
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
}

impl Default for Level {
    /// What this processor can do best.
    fn default() -> Level {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
        Level::Portable
    }
}

/// Rows of a register tile: with two vectors a row, twelve sums are in flight, which hides the latency of FMA.
pub(crate) const ROWS: usize = 6;

pub(crate) fn multiply_f32(block: &Block<'_, f32>, c: &mut [f32]) {
    check(block, c);
    match block.level {
        // SAFETY: `check` has proved every index in range.
        Level::Portable => unsafe { tiles::<portable::Single>(block, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; `Level::Avx2` exists only where AVX2 and FMA were detected.
        Level::Avx2 => unsafe { avx2::tiles_f32(block, c) },
    }
}

pub(crate) fn multiply_f64(block: &Block<'_, f64>, c: &mut [f64]) {
    check(block, c);
    match block.level {
        // SAFETY: `check` has proved every index in range.
        Level::Portable => unsafe { tiles::<portable::Double>(block, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; `Level::Avx2` exists only where AVX2 and FMA were detected.
        Level::Avx2 => unsafe { avx2::tiles_f64(block, c) },
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
    assert!((1..=T::LANES).contains(&block.width), "the panel is narrower");
    assert!(depth * T::LANES <= block.b.len(), "the panel is too short");
    if !block.rows.is_empty() {
        assert!(a_last + a_end <= block.a.len(), "a row of the left factor leaves its buffer");
        assert!(c_last + block.width <= c.len(), "a row of the product leaves its buffer");
    }
}

/// All rows, six at a time.
///
/// # Safety
/// `check` has accepted the arguments.
#[inline(always)]
unsafe fn tiles<V: Vector>(block: &Block<'_, V::Scalar>, c: &mut [V::Scalar]) {
    let c = c.as_mut_ptr();
    let (tiles, rest) = block.rows.as_chunks::<ROWS>();
    // SAFETY: the rows are among those accepted.
    unsafe {
        for rows in tiles {
            tile::<V, 6>(block, rows, c);
        }
        match rest {
            [] => {}
            [a] => tile::<V, 1>(block, &[*a], c),
            [a, b] => tile::<V, 2>(block, &[*a, *b], c),
            [a, b, d] => tile::<V, 3>(block, &[*a, *b, *d], c),
            [a, b, d, e] => tile::<V, 4>(block, &[*a, *b, *d, *e], c),
            [a, b, d, e, ..] => tile::<V, 5>(block, &[*a, *b, *d, *e, rest[4]], c),
        }
    }
}

/// # Safety
/// `rows` are rows of `block`, which `check` has accepted together with the buffer behind `c`.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize>(block: &Block<'_, V::Scalar>, rows: &[Row; R], c: *mut V::Scalar) {
    let mut sums = [[V::zero(); 2]; R];
    // SAFETY: every offset below is at most the one that `check` has compared with the length of its buffer.
    unsafe {
        let base: [*const V::Scalar; R] = std::array::from_fn(|r| block.a.as_ptr().add(rows[r].a));
        for row in rows {
            V::prefetch(c.add(row.c));
            V::prefetch(c.add(row.c + block.width - 1));
        }
        let mut b = block.b.as_ptr();
        for run in block.runs {
            let mut at = run.a;
            for _ in 0..run.len {
                let (b0, b1) = (V::load(b), V::load(b.add(V::LEN)));
                for r in 0..R {
                    let a = V::splat(base[r].add(at));
                    sums[r][0] = a.multiply_add(b0, sums[r][0]);
                    sums[r][1] = a.multiply_add(b1, sums[r][1]);
                }
                at += block.step;
                b = b.add(2 * V::LEN);
            }
        }
        if block.width < 2 * V::LEN {
            return narrow::<V, R>(block, rows, sums, c);
        }
        for r in 0..R {
            let to = c.add(rows[r].c);
            if block.add {
                sums[r][0] = V::load(to).add(sums[r][0]);
                sums[r][1] = V::load(to.add(V::LEN)).add(sums[r][1]);
            }
            sums[r][0].store(to);
            sums[r][1].store(to.add(V::LEN));
        }
    }
}

/// Writes the wanted columns of a tile. It gets the sums by value, so that those in the caller can live in registers.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn narrow<V: Vector, const R: usize>(
    block: &Block<'_, V::Scalar>,
    rows: &[Row; R],
    sums: [[V; 2]; R],
    c: *mut V::Scalar,
) {
    for (row, [left, right]) in rows.iter().zip(sums) {
        let mut line = [V::Scalar::default(); 16];
        // SAFETY: `line` has room for two vectors, and `check` has compared the wanted columns with the length of `c`.
        unsafe {
            left.store(line.as_mut_ptr());
            right.store(line.as_mut_ptr().add(V::LEN));
            for (j, sum) in line.iter().enumerate().take(block.width) {
                let to = c.add(row.c + j);
                *to = if block.add { *to + *sum } else { *sum };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::super::vector::avx2::{Double, Single};
    use super::{Block, tiles};

    /// # Safety
    /// The processor has AVX2 and FMA, and `check` has accepted the arguments.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tiles_f32(block: &Block<'_, f32>, c: &mut [f32]) {
        // SAFETY: as for this function.
        unsafe { tiles::<Single>(block, c) }
    }

    /// # Safety
    /// The processor has AVX2 and FMA, and `check` has accepted the arguments.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tiles_f64(block: &Block<'_, f64>, c: &mut [f64]) {
        // SAFETY: as for this function.
        unsafe { tiles::<Double>(block, c) }
    }
}
