//! Ops that move elements: reshape, permute, broadcast, slice, pad, concat.

use super::{same_dtype, wrap};
use crate::backend::Strided;
use crate::op::Op;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

impl Tensor {
    /// The same elements, row-major, under another shape.
    #[track_caller]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Tensor {
        let (from, to) = (*self.shape(), shape.into());
        if from == to {
            return self.clone();
        }
        Tensor::record(Op::Reshape, self.array().reshape(to), &[self], move |p| {
            vec![Some(p.dy().reshape(from))]
        })
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]` of this tensor.
    #[track_caller]
    pub fn permute(&self, order: &[usize]) -> Tensor {
        let shape = *self.shape();
        let mut inverse = vec![usize::MAX; shape.rank()];
        for (to, &from) in order.iter().enumerate() {
            if let Some(slot) = inverse.get_mut(from) {
                *slot = to;
            }
        }
        assert!(
            order.len() == shape.rank() && !inverse.contains(&usize::MAX),
            "permute: {order:?} is no order of the axes of {shape:?}"
        );
        let old = shape.strides();
        let mut strides = [0; MAX_RANK];
        for (to, &from) in order.iter().enumerate() {
            strides[to] = old[from];
        }
        let to = Shape::new(&order.iter().map(|&axis| shape[axis]).collect::<Vec<_>>());
        let y = self.strided(&to, Strided { offset: 0, strides });
        Tensor::record(Op::Permute(order.to_vec()), y, &[self], move |p| vec![Some(p.dy().permute(&inverse))])
    }

    /// The transpose of a matrix.
    #[track_caller]
    pub fn t(&self) -> Tensor {
        self.permute(&[1, 0])
    }

    /// This tensor repeated along axes of extent 1 and along new outer axes.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Tensor {
        let (from, to) = (*self.shape(), shape.into());
        if from == to {
            return self.clone();
        }
        assert_eq!(from.broadcast(&to), Some(to), "broadcast_to: {from:?} does not broadcast to {to:?}");
        let lead = to.rank() - from.rank();
        let old = from.strides();
        let mut strides = [0; MAX_RANK];
        for axis in lead..to.rank() {
            strides[axis] = if from[axis - lead] == 1 { 0 } else { old[axis - lead] };
        }
        let y = self.strided(&to, Strided { offset: 0, strides });
        Tensor::record(Op::BroadcastTo, y, &[self], move |p| vec![Some(p.dy().sum_to(from))])
    }

    /// The elements `start .. start + len` of one axis.
    #[track_caller]
    pub fn slice(&self, axis: usize, start: usize, len: usize) -> Tensor {
        self.slice_step(axis, start, len, 1)
    }

    /// `len` elements of one axis: `start`, `start + step`, …
    #[track_caller]
    pub fn slice_step(&self, axis: usize, start: usize, len: usize, step: usize) -> Tensor {
        let shape = *self.shape();
        assert!(
            axis < shape.rank() && step > 0 && len > 0 && start + (len - 1) * step < shape[axis],
            "slice: {len} elements from {start} by {step} on axis {axis} of {shape:?}"
        );
        let mut strides = shape.strides();
        let offset = start * strides[axis];
        strides[axis] *= step;
        let to = shape.with(axis, len);
        let y = self.strided(&to, Strided { offset, strides });
        Tensor::record(Op::Slice { axis, start, step }, y, &[self], move |p| {
            let spread = if step == 1 { p.dy().clone() } else { p.dy().spread(axis, step) };
            vec![Some(spread.pad_to(shape, axis, start))]
        })
    }

    /// Zeros of `shape` with this tensor placed from `start` on.
    #[track_caller]
    pub fn pad(&self, shape: impl Into<Shape>, start: impl Into<Shape>) -> Tensor {
        let (from, to, start) = (*self.shape(), shape.into(), start.into());
        assert!(
            from.rank() == to.rank() && from.rank() == start.rank(),
            "pad: {from:?} into {to:?} at {start:?}: the number of axes differs"
        );
        assert!(
            (0..to.rank()).all(|axis| start[axis] + from[axis] <= to[axis]),
            "pad: {from:?} does not fit into {to:?} at {start:?}"
        );
        let y = wrap(self, to, self.dtype(), self.device().place(&[(self.array(), start)], &to));
        Tensor::record(Op::Pad(start), y, &[self], move |p| {
            let mut g = p.dy().clone();
            for axis in 0..from.rank() {
                if g.shape()[axis] != from[axis] {
                    g = g.slice(axis, start[axis], from[axis]);
                }
            }
            vec![Some(g)]
        })
    }

    /// The parts one after another along one axis.
    #[track_caller]
    pub fn concat(parts: &[&Tensor], axis: usize) -> Tensor {
        let first = parts.first().expect("concat: no parts");
        let mut starts = Vec::with_capacity(parts.len());
        let mut extent = 0;
        for part in parts {
            same_dtype("concat", first, part);
            assert!(
                axis < part.shape().rank() && part.shape().with(axis, 1) == first.shape().with(axis, 1),
                "concat: parts {:?} and {:?} on axis {axis}",
                first.shape(),
                part.shape()
            );
            starts.push(Shape::new(&[0; MAX_RANK][..part.shape().rank()]).with(axis, extent));
            extent += part.shape()[axis];
        }
        let shape = first.shape().with(axis, extent);
        let placed: Vec<_> = parts.iter().zip(&starts).map(|(part, &start)| (part.array(), start)).collect();
        let y = wrap(first, shape, first.dtype(), first.device().place(&placed, &shape));
        let extents: Vec<usize> = parts.iter().map(|part| part.shape()[axis]).collect();
        Tensor::record(Op::Concat(axis), y, parts, move |p| {
            let mut start = 0;
            let slice = |(i, &len): (usize, &usize)| {
                start += len;
                p.need(i, || p.dy().slice(axis, start - len, len))
            };
            extents.iter().enumerate().map(slice).collect()
        })
    }

    fn strided(&self, shape: &Shape, view: Strided) -> crate::Array {
        wrap(self, *shape, self.dtype(), self.device().strided(self.array(), shape, &view))
    }

    /// Zeros between the elements of one axis: the adjoint of taking every `step`-th.
    fn spread(&self, axis: usize, step: usize) -> Tensor {
        let shape = *self.shape();
        let split = shape.split_at_axis(axis);
        let column = self.reshape([split.outer * split.extent, 1, split.inner]);
        let spaced = column.pad([split.outer * split.extent, step, split.inner], [0, 0, 0]);
        let all = spaced.reshape([split.outer, split.extent * step, split.inner]);
        all.slice(1, 0, (split.extent - 1) * step + 1)
            .reshape(shape.with(axis, (split.extent - 1) * step + 1))
    }

    fn pad_to(&self, shape: Shape, axis: usize, start: usize) -> Tensor {
        self.pad(shape, Shape::new(&[0; MAX_RANK][..shape.rank()]).with(axis, start))
    }
}
