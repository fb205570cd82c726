//! Shapes: up to six extents, stored inline.

use std::fmt;
use std::ops::Deref;

/// The largest number of axes of an array.
pub const MAX_RANK: usize = 6;

/// The extents of an array, outermost first. A scalar has the empty shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The shape with these extents.
    ///
    /// # Panics
    /// If there are more than [`MAX_RANK`].
    #[track_caller]
    pub fn new(dims: &[usize]) -> Self {
        assert!(dims.len() <= MAX_RANK, "a shape has at most {MAX_RANK} axes, got {dims:?}");
        let mut shape = Shape { dims: [1; MAX_RANK], rank: dims.len() };
        shape.dims[..dims.len()].copy_from_slice(dims);
        shape
    }

    /// The shape of a scalar.
    pub fn scalar() -> Self {
        Shape::new(&[])
    }

    /// The number of elements: the product of the extents, 1 for a scalar.
    pub fn len(&self) -> usize {
        self.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for axis in (0..self.rank).rev() {
            strides[axis] = step;
            step *= self.dims[axis];
        }
        strides
    }

    /// This shape with the extent of one axis changed.
    #[track_caller]
    pub fn with(mut self, axis: usize, extent: usize) -> Self {
        assert!(axis < self.rank, "axis {axis} of shape {self:?}");
        self.dims[axis] = extent;
        self
    }

    /// This shape without one axis.
    #[track_caller]
    pub fn without(self, axis: usize) -> Self {
        assert!(axis < self.rank, "axis {axis} of shape {self:?}");
        let mut dims: Vec<usize> = self.to_vec();
        dims.remove(axis);
        Shape::new(&dims)
    }

    /// The shape that both operands broadcast to, aligned at the innermost axis; `None` if they do not.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank.max(other.rank);
        let mut out = Shape { dims: [1; MAX_RANK], rank };
        for i in 0..rank {
            let a = self.nth_last(i);
            let b = other.nth_last(i);
            out.dims[rank - 1 - i] = match (a, b) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(out)
    }

    /// The axes split at `axis` into (outer, extent, inner): the element `[o, i, n]` of that view is
    /// at `(o·extent + i)·inner + n`.
    #[track_caller]
    pub fn split_at_axis(&self, axis: usize) -> Split {
        assert!(axis < self.rank, "axis {axis} of shape {self:?}");
        Split {
            outer: self.dims[..axis].iter().product(),
            extent: self.dims[axis],
            inner: self.dims[axis + 1..self.rank].iter().product(),
        }
    }

    fn nth_last(&self, i: usize) -> usize {
        if i < self.rank { self.dims[self.rank - 1 - i] } else { 1 }
    }
}

/// A row-major array seen as three axes: `(outer, extent, inner)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    /// The product of the extents before the axis.
    pub outer: usize,
    /// The extent of the axis.
    pub extent: usize,
    /// The product of the extents after the axis.
    pub inner: usize,
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape::new(&dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape::new(dims)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(")?;
        for (i, extent) in self.iter().enumerate() {
            write!(f, "{}{extent}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, ")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_aligns_the_innermost_axes() {
        let shape = |d: &[usize]| Shape::new(d);
        assert_eq!(shape(&[4, 3]).broadcast(&shape(&[3])), Some(shape(&[4, 3])));
        assert_eq!(shape(&[4, 1]).broadcast(&shape(&[5])), Some(shape(&[4, 5])));
        assert_eq!(shape(&[]).broadcast(&shape(&[2, 2])), Some(shape(&[2, 2])));
        assert_eq!(shape(&[4, 3]).broadcast(&shape(&[4])), None);
    }

    #[test]
    fn strides_and_splits_are_row_major() {
        let s = Shape::new(&[2, 3, 4]);
        assert_eq!(s.strides()[..3], [12, 4, 1]);
        assert_eq!(s.split_at_axis(1), Split { outer: 2, extent: 3, inner: 4 });
        assert_eq!(Shape::scalar().len(), 1);
        assert_eq!(format!("{s:?}"), "(2, 3, 4)");
    }
}
