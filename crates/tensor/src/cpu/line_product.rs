//! Products of a sparse factor with lines of [`LINE`] numbers that lie side by side.
//!
//! Linear functionals of a layer are substituted through its weights in bundles: a line holds the coefficients of [`LINE`]
//! functionals at one unit. Units without a coefficient have no line, so that the sum runs over those that are there:
//!
//! `to[r, lane] = Σ_run Σ_{i in run} weights[run.weights + rows[r] + columns[i]] · from[i, lane]`.
//!
//! Every sum is taken in the order of the runs, whatever else is computed beside it: a functional has the same bits in
//! every bundle.

use super::gemm::kernel::Level;
use super::gemm::vector::{Vector, portable};

/// Numbers in a line: a cache line of f64.
pub const LINE: usize = 8;

/// A stretch of lines that meet the weights from a common place on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineRun {
    /// The first line.
    pub first: usize,
    /// The number of lines.
    pub len: usize,
    /// Where the weights for these lines begin.
    pub weights: usize,
}

/// Weights, and bundles of lines that are multiplied by them: every bundle has a line at each of the same units.
///
/// ```
/// use tarrl_tensor::{LINE, LineProduct, LineRun, LineTarget};
///
/// let weights = [2.0, 5.0, 10.0]; // of three units, of which the first and the last have lines
/// let from: Vec<f64> = (0..2 * LINE).map(|i| i as f64).collect();
/// let mut data = [0.0; LINE];
/// let both = LineRun { first: 0, len: 2, weights: 0 };
/// let to = &mut LineTarget { data: &mut data, height: 1 };
/// LineProduct::new(&weights, &[0, 2], &from, 1).multiply(&[0], &[both], to, 0);
/// assert_eq!(data[3], 2.0 * 3.0 + 10.0 * 11.0);
/// ```
#[derive(Debug)]
pub struct LineProduct<'a> {
    weights: &'a [f64],
    columns: &'a [u32],
    /// One more than the largest column.
    width: usize,
    from: &'a [f64],
    bundles: usize,
    level: Level,
}

/// The place of the results: `height` lines for each bundle.
#[derive(Debug)]
pub struct LineTarget<'a> {
    /// `(bundles, height, LINE)` row-major.
    pub data: &'a mut [f64],
    /// Lines of a bundle.
    pub height: usize,
}

impl<'a> LineProduct<'a> {
    /// The product with `from`, `(bundles, columns.len(), LINE)` row-major.
    ///
    /// # Panics
    /// If `from` has another length.
    #[track_caller]
    pub fn new(weights: &'a [f64], columns: &'a [u32], from: &'a [f64], bundles: usize) -> Self {
        assert_eq!(
            Some(from.len()),
            lines(bundles, columns.len()),
            "LineProduct: the lines of {bundles} bundles"
        );
        let width = columns.iter().max().map_or(0, |&most| most as usize + 1);
        LineProduct { weights, columns, width, from, bundles, level: Level::default() }
    }

    /// Computes the lines from `first` on in every bundle of `to`, one for each of `rows`, and overwrites what is there.
    ///
    /// # Panics
    /// If a row or a run leaves its slice.
    #[track_caller]
    pub fn multiply(&self, rows: &[usize], runs: &[LineRun], to: &mut LineTarget<'_>, first: usize) {
        let last = rows.iter().max().map_or(0, |&row| row).saturating_add(self.width);
        for run in runs {
            let fits = run.first.saturating_add(run.len) <= self.columns.len()
                && run.weights.saturating_add(last) <= self.weights.len();
            assert!(fits, "LineProduct: a run leaves the lines or the weights");
        }
        assert_eq!(
            Some(to.data.len()),
            lines(self.bundles, to.height),
            "LineProduct: the lines of the result"
        );
        assert!(first.saturating_add(rows.len()) <= to.height, "LineProduct: the rows of the result");
        match self.level {
            // SAFETY: every index has been compared with the length of its slice.
            Level::Portable => unsafe { self.tiles::<portable::Double, 2>(rows, runs, to, first) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; `Level::Avx2` exists only where AVX2 and FMA were detected.
            Level::Avx2 => unsafe { self.avx2(rows, runs, to, first) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; `Level::Avx512` exists only where AVX-512F was detected.
            Level::Avx512 => unsafe { self.avx512(rows, runs, to, first) },
        }
    }

    /// # Safety
    /// The processor has AVX2 and FMA, and every index is in its slice.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(&self, rows: &[usize], runs: &[LineRun], to: &mut LineTarget<'_>, first: usize) {
        // SAFETY: as for this function.
        unsafe { self.tiles::<super::gemm::vector::avx2::Double, 2>(rows, runs, to, first) }
    }

    /// # Safety
    /// The processor has AVX-512F, and every index is in its slice.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn avx512(&self, rows: &[usize], runs: &[LineRun], to: &mut LineTarget<'_>, first: usize) {
        // SAFETY: as for this function.
        unsafe { self.tiles::<super::gemm::vector::avx512::Double, 1>(rows, runs, to, first) }
    }

    /// All rows and bundles in tiles of about twelve sums of two vectors, which hides the latency of FMA: where few rows are
    /// left, several bundles are taken at once.
    ///
    /// # Safety
    /// Every index is in its slice, and the processor has the instructions of `V`; `V::LEN · PARTS` is [`LINE`].
    #[inline(always)]
    unsafe fn tiles<V: Vector<Scalar = f64>, const PARTS: usize>(
        &self,
        mut rows: &[usize],
        runs: &[LineRun],
        to: &mut LineTarget<'_>,
        mut first: usize,
    ) {
        macro_rules! strip {
            ($height:literal: $($wide:literal),+) => {
                while let Some((tile, rest)) = rows.split_first_chunk::<$height>() {
                    let mut bundle = 0;
                    $(while self.bundles - bundle >= $wide {
                        // SAFETY: as for this function.
                        unsafe { self.tile::<V, PARTS, $height, $wide>(tile, runs, to, [bundle, first]) };
                        bundle += $wide;
                    })+
                    (rows, first) = (rest, first + $height);
                }
            };
        }
        strip!(6: 1);
        strip!(5: 1);
        strip!(4: 1);
        strip!(3: 2, 1);
        strip!(2: 3, 2, 1);
        strip!(1: 6, 5, 4, 3, 2, 1);
    }

    /// Some rows of some bundles.
    ///
    /// # Safety
    /// As for [`LineProduct::tiles`].
    #[inline(always)]
    unsafe fn tile<V: Vector<Scalar = f64>, const PARTS: usize, const R: usize, const B: usize>(
        &self,
        rows: &[usize; R],
        runs: &[LineRun],
        to: &mut LineTarget<'_>,
        [bundle, first]: [usize; 2],
    ) {
        let mut sums = [[[V::zero(); PARTS]; B]; R];
        let apart = self.columns.len() * LINE;
        // SAFETY: the caller has compared every index with the length of its slice.
        unsafe {
            for run in runs {
                let weights: [*const f64; R] =
                    std::array::from_fn(|r| self.weights.as_ptr().add(run.weights + rows[r]));
                let mut line = self.from.as_ptr().add(bundle * apart + run.first * LINE);
                for &column in self.columns.get_unchecked(run.first..run.first + run.len) {
                    let values: [[V; PARTS]; B] = std::array::from_fn(|b| {
                        std::array::from_fn(|part| V::load(line.add(b * apart + part * V::LEN)))
                    });
                    for (sums, weights) in sums.iter_mut().zip(weights) {
                        let weight = V::splat(weights.add(column as usize));
                        for (sums, values) in sums.iter_mut().zip(values) {
                            for (sum, value) in sums.iter_mut().zip(values) {
                                *sum = weight.multiply_add(value, *sum);
                            }
                        }
                    }
                    line = line.add(LINE);
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (b, sums) in sums.into_iter().enumerate() {
                    let at = ((bundle + b) * to.height + first + r) * LINE;
                    for (part, sum) in sums.into_iter().enumerate() {
                        sum.store(to.data.as_mut_ptr().add(at + part * V::LEN));
                    }
                }
            }
        }
    }
}

/// Numbers in `height` lines of each bundle, if they can be counted.
fn lines(bundles: usize, height: usize) -> Option<usize> {
    bundles.checked_mul(height)?.checked_mul(LINE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_sums_over_the_lines_that_are_there(
            seed in 0u64..1_000_000, rows in 0usize..14, bundles in 1usize..9, taps in 0usize..4, height in 0usize..3,
        ) {
            let mut stream = Key::new(seed).stream();
            let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect() };
            let (width, lines) = (7, 12);
            let columns: Vec<u32> = draw(lines).iter().map(|v| ((v + 1.0) * 3.5).min(6.0) as u32).collect();
            let offsets: Vec<usize> = (0..rows).map(|r| r * width).collect();
            let runs: Vec<LineRun> =
                (0..taps).map(|t| LineRun { first: 3 * t, len: 3 - t % 2, weights: t * rows * width }).collect();
            let weights = draw((taps * rows + 1) * width);
            let from = draw(bundles * lines * LINE);
            let mut product = LineProduct::new(&weights, &columns, &from, bundles);
            let height = rows + height;
            let mut found = vec![];
            for level in Level::available() {
                product.level = level;
                let mut data = vec![f64::NAN; bundles * height * LINE];
                product.multiply(&offsets, &runs, &mut LineTarget { data: &mut data, height }, height - rows);
                for (b, bundle) in data.chunks(height.max(1) * LINE).enumerate() {
                    for (r, line) in bundle.chunks(LINE).skip(height - rows).enumerate() {
                        for (lane, found) in line.iter().enumerate() {
                            let term = |run: &LineRun, i: usize| {
                                weights[run.weights + offsets[r] + columns[i] as usize]
                                    * from[(b * lines + i) * LINE + lane]
                            };
                            let sum: f64 = runs
                                .iter()
                                .flat_map(|run| (run.first..run.first + run.len).map(move |i| term(run, i)))
                                .sum();
                            // At most nine products below one, rounded in another order.
                            prop_assert!((found - sum).abs() < 1e-14);
                        }
                    }
                }
                found.push(data.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
            // Both vector levels fuse multiply and add, so that they have the same bits.
            if let [wide, narrow, _] = &found[..] {
                prop_assert_eq!(wide, narrow);
            }
        }
    }

    /// Ends that wrap around to a small number are refused too: safe code cannot reach outside of a slice.
    #[test]
    fn runs_rows_and_bundles_that_wrap_around_are_refused() {
        let refused = |rows: &[usize], run: LineRun, height: usize, first: usize| {
            let mut data = [0.0; LINE];
            let product = LineProduct::new(&[1.0], &[0], &[1.0; LINE], 1);
            let multiply =
                || product.multiply(rows, &[run], &mut LineTarget { data: &mut data, height }, first);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(multiply)).is_err()
        };
        let good = LineRun { first: 0, len: 1, weights: 0 };
        assert!(!refused(&[0], good, 1, 0));
        assert!(refused(&[0], LineRun { first: usize::MAX, ..good }, 1, 0));
        assert!(refused(&[0], LineRun { weights: usize::MAX, ..good }, 1, 0));
        assert!(refused(&[usize::MAX], good, 1, 0));
        assert!(refused(&[0], good, 1, usize::MAX));
        assert!(refused(&[0], good, 1 + usize::MAX / LINE + 1, 0));
    }

    /// The first bundle alone has the bits that it has beside others.
    #[test]
    fn a_bundle_has_the_same_bits_in_any_company() {
        let mut stream = Key::new(3).stream();
        let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect() };
        let (weights, columns) = (draw(9 * 40), (0..40).collect::<Vec<u32>>());
        let from = draw(7 * 40 * LINE);
        let run = [LineRun { first: 0, len: 40, weights: 0 }];
        let multiply = |rows: &[usize], bundles: usize| {
            let mut data = vec![0.0; bundles * rows.len() * LINE];
            let to = &mut LineTarget { data: &mut data, height: rows.len() };
            LineProduct::new(&weights, &columns, &from[..bundles * 40 * LINE], bundles)
                .multiply(rows, &run, to, 0);
            data.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        let rows: Vec<usize> = (0..9).map(|r| r * 40).collect();
        let all = multiply(&rows, 7);
        for bundles in 1..7 {
            assert_eq!(multiply(&rows, bundles), all[..bundles * 9 * LINE]);
        }
        for (r, row) in rows.iter().enumerate() {
            assert_eq!(multiply(&[*row], 1), all[r * LINE..][..LINE]);
        }
    }

    #[test]
    #[should_panic(expected = "a run leaves the lines or the weights")]
    fn a_run_beyond_the_weights_is_refused() {
        let product = LineProduct::new(&[1.0, 2.0], &[0, 1], &[0.0; 2 * LINE], 1);
        let run = LineRun { first: 0, len: 2, weights: 1 };
        product.multiply(&[0], &[run], &mut LineTarget { data: &mut [0.0; LINE], height: 1 }, 0);
    }
}
