//! Reductions over one axis or all. The axis stays with extent 1, so that results broadcast back.

use super::wrap;
use crate::array::{Array, DType};
use crate::backend::Extreme;
use crate::op::Op;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Tensor {
    /// The sum over one axis, which stays with extent 1.
    #[track_caller]
    pub fn sum(&self, axis: usize) -> Tensor {
        let shape = *self.shape();
        let split = shape.split_at_axis(axis);
        let y = wrap(self, shape.with(axis, 1), self.dtype(), self.device().sum(self.array(), split));
        Tensor::record(Op::Sum(axis), y, &[self], move |p| vec![Some(p.dy().broadcast_to(shape))])
    }

    /// The mean over one axis, which stays with extent 1.
    #[track_caller]
    pub fn mean(&self, axis: usize) -> Tensor {
        self.sum(axis).mul_scalar(1.0 / self.shape()[axis] as f64)
    }

    /// The sum of all elements, a scalar.
    pub fn sum_all(&self) -> Tensor {
        self.reshape([self.array().len()]).sum(0).reshape([])
    }

    /// The mean of all elements, a scalar.
    pub fn mean_all(&self) -> Tensor {
        self.sum_all().mul_scalar(1.0 / self.array().len() as f64)
    }

    /// The largest element over one axis, which stays with extent 1; the gradient goes to the first.
    #[track_caller]
    pub fn max(&self, axis: usize) -> Tensor {
        self.extreme(Extreme::Max, axis)
    }

    /// The smallest element over one axis, which stays with extent 1; the gradient goes to the first.
    #[track_caller]
    pub fn min(&self, axis: usize) -> Tensor {
        self.extreme(Extreme::Min, axis)
    }

    /// The index of the first largest element over one axis, which goes: U32.
    #[track_caller]
    pub fn argmax(&self, axis: usize) -> Array {
        let split = self.shape().split_at_axis(axis);
        let index = self.device().arg_extreme(self.array(), split, Extreme::Max, false);
        wrap(self, self.shape().without(axis), DType::U32, index)
    }

    /// ln Σ eˣ over one axis, which stays with extent 1; finite for any finite x.
    #[track_caller]
    pub fn logsumexp(&self, axis: usize) -> Tensor {
        let top = self.detach().max(axis);
        &(self - &top).exp().sum(axis).log() + &top
    }

    /// The Euclidean norm over one axis, which stays with extent 1. At zero its gradient is zero.
    #[track_caller]
    pub fn norm(&self, axis: usize) -> Tensor {
        let square = self.square().sum(axis);
        // √ has an infinite derivative at 0, and 0·∞ would poison the gradient: where the square is
        // zero, the root is taken of 1 instead and multiplied away.
        let square_value = square.detach();
        let zero = square_value.equal(&square_value.zeros_like());
        let one_minus_zero = zero.neg().add_scalar(1.0);
        &(&square + &zero).sqrt() * &one_minus_zero
    }

    /// This tensor summed over the axes along which `shape` would broadcast to it.
    ///
    /// # Panics
    /// If `shape` does not broadcast to this tensor's shape.
    #[track_caller]
    pub fn sum_to(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        let from = *self.shape();
        if from == shape {
            return self.clone();
        }
        assert_eq!(shape.broadcast(&from), Some(from), "sum_to: {shape:?} does not broadcast to {from:?}");
        let lead = from.rank() - shape.rank();
        let mut x = self.array().clone();
        for (from, to) in runs_to_sum(&from, &shape, lead) {
            let dims = *x.shape();
            let merged: usize = dims[from..to].iter().product();
            let outer: usize = dims[..from].iter().product();
            let inner: usize = dims[to..].iter().product();
            let split = crate::shape::Split { outer, extent: merged, inner };
            let mut ones = dims;
            for axis in from..to {
                ones = ones.with(axis, 1);
            }
            x = Array::wrap(x.device(), ones, x.dtype(), x.device().sum(&x, split));
        }
        Tensor::record(Op::SumTo, x.reshape(shape), &[self], move |p| vec![Some(p.dy().broadcast_to(from))])
    }

    fn extreme(&self, which: Extreme, axis: usize) -> Tensor {
        let shape = *self.shape();
        let split = shape.split_at_axis(axis);
        let index = self.device().arg_extreme(self.array(), split, which, true);
        let index = wrap(self, [split.outer * split.inner], DType::U32, index);
        self.pick(&index, Op::Extreme(which, axis), shape.with(axis, 1))
    }
}

/// The runs of adjacent axes of `from` that go, innermost run first so that later ones shrink less data.
fn runs_to_sum(from: &Shape, to: &Shape, lead: usize) -> Vec<(usize, usize)> {
    let goes = |axis: usize| from[axis] != 1 && (axis < lead || to[axis - lead] == 1);
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for axis in (0..from.rank()).filter(|&a| goes(a)) {
        match runs.last_mut() {
            Some(run) if run.1 == axis => run.1 += 1,
            _ => runs.push((axis, axis + 1)),
        }
    }
    runs.reverse();
    runs
}
