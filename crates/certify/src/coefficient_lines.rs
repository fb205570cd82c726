//! Coefficient lines: linear functionals of a value, stored only at the units that they read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tarrl_tensor::LINE;

/// The coefficients of some rows at the units of a value of one sample.
///
/// Rows fall into bundles of [`LINE`]. A bundle holds a line for each unit that any row may read: the coefficients of its
/// rows at that unit, side by side. A unit without a line has the coefficient zero in every row, so that neither units
/// outside the receptive field nor units that are inactive in the whole ball cost anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct CoefficientLines {
    /// The units that have a line, in rising order.
    pub(crate) units: Vec<u32>,
    /// `(bundles, units, LINE)` row-major.
    pub(crate) data: Vec<f64>,
    /// Upper bounds of the l1 norm of each row, up to the rounding of their sums, if they are known.
    pub(crate) l1: Option<Vec<f64>>,
}

/// Vectors that were used before: the first touch of fresh memory takes longer than what is computed there.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<f64>>>);

impl Buffers {
    /// A vector of `len` numbers, any whatever.
    pub(crate) fn take(&self, len: usize) -> Vec<f64> {
        let mut spare = self.spare();
        // The smallest that is large enough.
        let fits =
            (0..spare.len()).filter(|&i| spare[i].capacity() >= len).min_by_key(|&i| spare[i].capacity());
        let mut buffer = fits.map_or_else(Vec::new, |i| spare.swap_remove(i));
        drop(spare);
        buffer.resize(len, 0.0);
        buffer
    }

    /// Keeps a vector for later.
    pub(crate) fn keep(&self, buffer: Vec<f64>) {
        let mut spare = self.spare();
        spare.push(buffer);
        if spare.len() > SPARE {
            let smallest = (0..spare.len()).min_by_key(|&i| spare[i].capacity()).expect("there are some");
            spare.swap_remove(smallest);
        }
    }

    /// The vectors stay valid when a thread panics.
    fn spare(&self) -> MutexGuard<'_, Vec<Vec<f64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Vectors that are kept: a few for each of many threads.
const SPARE: usize = 64;

impl CoefficientLines {
    /// One row for each pair of a unit and a factor, which is its only coefficient.
    pub(crate) fn of_units(rows: &[(usize, f64)]) -> Self {
        let mut units: Vec<u32> = rows.iter().map(|&(unit, _)| unit as u32).collect();
        units.sort_unstable();
        units.dedup();
        let mut data = vec![0.0; rows.len().div_ceil(LINE) * units.len() * LINE];
        for (row, &(unit, factor)) in rows.iter().enumerate() {
            let line = units.binary_search(&(unit as u32)).expect("it was put there");
            data[(row / LINE * units.len() + line) * LINE + row % LINE] = factor;
        }
        CoefficientLines { units, data, l1: None }
    }

    /// How many bundles there are.
    pub(crate) fn bundles(&self) -> usize {
        self.data.len() / (self.units.len() * LINE).max(1)
    }

    /// The lines of each bundle.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[[f64; LINE]]> {
        self.data.chunks(self.units.len().max(1) * LINE).map(|bundle| bundle.as_chunks().0)
    }

    /// Drops the lines of units that are not in `kept`.
    pub(crate) fn retain(&mut self, kept: &[bool]) {
        if self.units.iter().all(|&unit| kept[unit as usize]) {
            return;
        }
        let (before, bundles) = (self.units.len(), self.bundles());
        let mut to = 0;
        for bundle in 0..bundles {
            for (line, &unit) in self.units.iter().enumerate() {
                if kept[unit as usize] {
                    self.data.copy_within(
                        (bundle * before + line) * LINE..(bundle * before + line + 1) * LINE,
                        to,
                    );
                    to += LINE;
                }
            }
        }
        self.data.truncate(to);
        self.units.retain(|&unit| kept[unit as usize]);
    }

    /// The lines of `units`; zeros where there is none.
    pub(crate) fn at(&self, bundles: usize, units: &[u32], buffers: &Buffers) -> Self {
        let mut data = buffers.take(bundles * units.len() * LINE);
        if self.units == units {
            data.copy_from_slice(&self.data);
            return CoefficientLines { units: units.to_vec(), data, l1: None };
        }
        data.fill(0.0);
        let places: Vec<Option<usize>> =
            units.iter().map(|unit| self.units.binary_search(unit).ok()).collect();
        for (to, from) in data.chunks_mut((units.len() * LINE).max(1)).zip(self.lines()) {
            for (place, to) in places.iter().zip(to.as_chunks_mut::<LINE>().0) {
                if let Some(line) = place {
                    *to = from[*line];
                }
            }
        }
        CoefficientLines { units: units.to_vec(), data, l1: None }
    }

    /// The sum of two functionals of one value, with the lines of both.
    pub(crate) fn plus(self, other: CoefficientLines, bundles: usize, buffers: &Buffers) -> Self {
        let mut units = [&self.units[..], &other.units].concat();
        units.sort_unstable();
        units.dedup();
        let mut data = buffers.take(bundles * units.len() * LINE);
        data.fill(0.0);
        for part in [self, other] {
            let height = units.len();
            let mut line = 0;
            let places: Vec<usize> = part
                .units
                .iter()
                .map(|unit| {
                    line += units[line..].iter().position(|u| u == unit).expect("a union holds both");
                    line
                })
                .collect();
            for (to, from) in data.chunks_mut((height * LINE).max(1)).zip(part.lines()) {
                for (&place, from) in places.iter().zip(from) {
                    to[place * LINE..].iter_mut().zip(from).for_each(|(to, from)| *to += from);
                }
            }
            buffers.keep(part.data);
        }
        CoefficientLines { units, data, l1: None }
    }

    /// `Σ |a|` of each row, kept until coefficients change.
    pub(crate) fn l1_norms(&mut self, bundles: usize) -> &[f64] {
        if self.l1.is_none() {
            let mut sums = vec![0.0; bundles * LINE];
            for (sums, lines) in sums.as_chunks_mut::<LINE>().0.iter_mut().zip(self.lines()) {
                let mut sum = [0.0; LINE];
                for line in lines {
                    sum.iter_mut().zip(line).for_each(|(sum, a)| *sum += a.abs());
                }
                *sums = sum;
            }
            self.l1 = Some(sums);
        }
        self.l1.as_deref().expect("it was set")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nine rows of three units: a bundle and one row more.
    fn nine() -> CoefficientLines {
        let rows: Vec<(usize, f64)> = (0..9).map(|row| (10 - 3 * (row % 3), 1.0 + row as f64)).collect();
        CoefficientLines::of_units(&rows)
    }

    /// The coefficients of a row, by unit.
    fn row(lines: &CoefficientLines, row: usize) -> Vec<(u32, f64)> {
        let bundle = lines.lines().nth(row / LINE).unwrap();
        let all = lines.units.iter().zip(bundle).map(|(&unit, line)| (unit, line[row % LINE]));
        all.filter(|(_, a)| *a != 0.0).collect()
    }

    #[test]
    fn every_row_reads_its_unit() {
        let lines = nine();
        assert_eq!((lines.bundles(), &lines.units[..]), (2, &[4, 7, 10][..]));
        for r in 0..9 {
            assert_eq!(row(&lines, r), [((10 - 3 * (r % 3)) as u32, 1.0 + r as f64)]);
        }
    }

    #[test]
    fn lines_of_other_units_are_dropped() {
        let mut lines = nine();
        let kept: Vec<bool> = (0..12).map(|unit| unit != 7).collect();
        lines.retain(&kept);
        assert_eq!((lines.bundles(), &lines.units[..]), (2, &[4, 10][..]));
        for r in 0..9 {
            let expected =
                if r % 3 == 1 { vec![] } else { vec![((10 - 3 * (r % 3)) as u32, 1.0 + r as f64)] };
            assert_eq!(row(&lines, r), expected);
        }
    }

    #[test]
    fn sums_have_the_lines_of_both() {
        let rows: Vec<(usize, f64)> = (0..9).map(|row| (7 + row % 2, 100.0)).collect();
        let sum = nine().plus(CoefficientLines::of_units(&rows), 2, &Buffers::default());
        assert_eq!(sum.units, [4, 7, 8, 10]);
        assert_eq!(row(&sum, 0), [(7, 100.0), (10, 1.0)]);
        assert_eq!(row(&sum, 4), [(7, 105.0)]);
        assert_eq!(row(&sum, 8), [(4, 9.0), (7, 100.0)]);
    }

    #[test]
    fn lines_that_are_asked_for_and_missing_are_zero() {
        let found = nine().at(2, &[3, 7], &Buffers::default());
        assert_eq!(found.units, [3, 7]);
        assert_eq!((row(&found, 0), row(&found, 4)), (vec![], vec![(7, 5.0)]));
    }

    #[test]
    fn l1_norms_are_sums_of_sizes() {
        let minus: Vec<(usize, f64)> = (0..9).map(|row| (2, -0.5 * row as f64)).collect();
        let mut sum = nine().plus(CoefficientLines::of_units(&minus), 2, &Buffers::default());
        let expected: Vec<f64> = (0..9).map(|row| 1.0 + 1.5 * row as f64).chain([0.0; 7]).collect();
        assert_eq!(sum.l1_norms(2), expected);
    }
}
