//! Coefficient patches: linear functionals of a value, restricted to the receptive field of a unit.

use tarrl_tensor::Shape;

/// One coefficient map for each row, of a value with extents `(h, w, c)`.
///
/// A unit of a convolution sees a patch of the value below it, so that only the patch is stored: row `r`
/// holds the positions `anchor·scale + offset + (0 .. size)`, where `anchor` is the unit's own position.
/// Scale 0 and the size of the map is the whole map. Coefficients outside the map are zero.
#[derive(Clone, Debug)]
pub(crate) struct CoefficientPatch {
    pub(crate) scale: usize,
    pub(crate) offset: [isize; 2],
    pub(crate) size: [usize; 2],
    /// `(rows, size, size, c)` row-major.
    pub(crate) data: Vec<f64>,
}

/// The rows of one substitution: the sample of each and the position of its unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetRows {
    pub(crate) sample: Vec<usize>,
    pub(crate) anchor: Vec<[usize; 2]>,
}

/// The extents of one sample of a value as a map: `(h, w, c)`, or `(1, 1, len)` for other ranks.
pub(crate) fn spatial_extents(shape: &Shape) -> [usize; 3] {
    match shape[..] {
        [h, w, c] => [h, w, c],
        _ => [1, 1, shape.len()],
    }
}

impl CoefficientPatch {
    /// Rows over the whole map.
    pub(crate) fn whole(map: [usize; 3], data: Vec<f64>) -> Self {
        CoefficientPatch { scale: 0, offset: [0, 0], size: [map[0], map[1]], data }
    }

    /// Whether it holds the whole map.
    pub(crate) fn is_whole(&self, map: [usize; 3]) -> bool {
        self.scale == 0 && self.offset == [0, 0] && self.size == [map[0], map[1]]
    }

    /// The number of coefficients of a row.
    pub(crate) fn width(&self, channels: usize) -> usize {
        self.size[0] * self.size[1] * channels
    }

    /// The runs of row `row` that lie inside the map: `(start in the row, start in the map, length)`.
    pub(crate) fn runs(
        &self,
        anchor: [usize; 2],
        map: [usize; 3],
    ) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let [h, w, c] = map;
        let start = |axis: usize| (anchor[axis] * self.scale) as isize + self.offset[axis];
        let (top, left, size) = (start(0), start(1), self.size);
        let first = (-left).max(0) as usize;
        let last = ((w as isize - left).max(0) as usize).min(size[1]);
        (0..size[0]).filter_map(move |py| {
            let y = top + py as isize;
            let inside = y >= 0 && (y as usize) < h && first < last;
            inside.then(|| {
                let x = (left + first as isize) as usize;
                ((py * size[1] + first) * c, (y as usize * w + x) * c, (last - first) * c)
            })
        })
    }

    /// The same rows over the whole map.
    pub(crate) fn into_whole(self, targets: &TargetRows, map: [usize; 3]) -> Self {
        if self.is_whole(map) {
            return self;
        }
        let (width, len) = (self.width(map[2]), map.iter().product::<usize>());
        let mut data = vec![0.0; targets.sample.len() * len];
        for (row, &anchor) in targets.anchor.iter().enumerate() {
            for (from, to, n) in self.runs(anchor, map) {
                data[row * len + to..][..n].copy_from_slice(&self.data[row * width + from..][..n]);
            }
        }
        CoefficientPatch::whole(map, data)
    }

    /// Sets what lies outside the map to zero.
    pub(crate) fn clear_outside(&mut self, targets: &TargetRows, map: [usize; 3]) {
        let width = self.width(map[2]);
        let mut kept = vec![0.0; width];
        for (row, &anchor) in targets.anchor.iter().enumerate() {
            if self.runs(anchor, map).map(|(_, _, n)| n).sum::<usize>() == width {
                continue; // All of it is inside.
            }
            kept.fill(0.0);
            for (from, _, n) in self.runs(anchor, map) {
                kept[from..][..n].copy_from_slice(&self.data[row * width + from..][..n]);
            }
            self.data[row * width..][..width].copy_from_slice(&kept);
        }
    }

    /// The sum of two functionals of one value.
    pub(crate) fn plus(self, other: CoefficientPatch, targets: &TargetRows, map: [usize; 3]) -> Self {
        let same = |a: &CoefficientPatch, b: &CoefficientPatch| {
            (a.scale, a.offset, a.size) == (b.scale, b.offset, b.size)
        };
        let (mut a, b) = if same(&self, &other) {
            (self, other)
        } else if self.scale == other.scale {
            let (offset, size) = hull(&self, &other);
            (self.within(offset, size, map[2]), other.within(offset, size, map[2]))
        } else {
            (self.into_whole(targets, map), other.into_whole(targets, map))
        };
        a.data.iter_mut().zip(&b.data).for_each(|(a, b)| *a += b);
        a
    }

    /// The same rows in a larger patch.
    fn within(self, offset: [isize; 2], size: [usize; 2], c: usize) -> CoefficientPatch {
        let shift = [0, 1].map(|axis| (self.offset[axis] - offset[axis]) as usize);
        let (old, new) = (self.size[1] * c, size[1] * c);
        let rows = self.data.len() / (self.size[0] * old);
        let mut data = vec![0.0; rows * size[0] * new];
        for (line, values) in self.data.chunks(old).enumerate() {
            let (row, py) = (line / self.size[0], line % self.size[0]);
            let to = (row * size[0] + py + shift[0]) * new + shift[1] * c;
            data[to..][..old].copy_from_slice(values);
        }
        CoefficientPatch { scale: self.scale, offset, size, data }
    }
}

/// The smallest patch that holds both.
fn hull(a: &CoefficientPatch, b: &CoefficientPatch) -> ([isize; 2], [usize; 2]) {
    let offset = [0, 1].map(|axis| a.offset[axis].min(b.offset[axis]));
    let end = |p: &CoefficientPatch, axis: usize| p.offset[axis] + p.size[axis] as isize;
    (offset, [0, 1].map(|axis| (end(a, axis).max(end(b, axis)) - offset[axis]) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> TargetRows {
        TargetRows { sample: vec![0, 0], anchor: vec![[0, 0], [1, 2]] }
    }

    #[test]
    fn patches_are_placed_and_cut_at_the_border() {
        let map = [3, 4, 1];
        let mut piece = CoefficientPatch {
            scale: 1,
            offset: [-1, -1],
            size: [2, 2],
            data: (1..=8).map(f64::from).collect(),
        };
        piece.clear_outside(&targets(), map);
        // At the corner only the last position of the patch is inside.
        assert_eq!(piece.data, [0.0, 0.0, 0.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let whole = piece.into_whole(&targets(), map);
        let mut expected = [0.0; 24];
        (expected[0], expected[13], expected[14], expected[17], expected[18]) = (4.0, 5.0, 6.0, 7.0, 8.0);
        assert_eq!(whole.data, expected);
    }

    #[test]
    fn a_patch_that_lies_inside_but_for_a_line_is_cut_too() {
        let targets = TargetRows { sample: vec![0, 0], anchor: vec![[0, 1], [1, 1]] };
        let mut piece = CoefficientPatch { scale: 1, offset: [0, 0], size: [3, 3], data: vec![1.0; 18] };
        piece.clear_outside(&targets, [3, 4, 1]);
        assert_eq!(piece.data, [[1.0; 9].as_slice(), &[1.0; 6], &[0.0; 3]].concat());
    }

    #[test]
    fn branches_of_different_reach_are_added_in_place() {
        let map = [5, 5, 1];
        let wide = || CoefficientPatch {
            scale: 1,
            offset: [-1, -1],
            size: [3, 3],
            data: (0..18).map(f64::from).collect(),
        };
        let point = || CoefficientPatch { scale: 1, offset: [0, 0], size: [1, 1], data: vec![100.0, 200.0] };
        let sum = wide().plus(point(), &targets(), map);
        assert_eq!((sum.data[4], sum.data[13], sum.data[0]), (104.0, 213.0, 0.0));
        let mut other = point().plus(wide(), &targets(), map);
        other.clear_outside(&targets(), map);
        let mut sum = sum;
        sum.clear_outside(&targets(), map);
        assert_eq!(sum.into_whole(&targets(), map).data, other.into_whole(&targets(), map).data);
    }
}
