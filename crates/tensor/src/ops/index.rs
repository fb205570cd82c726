//! Gather and scatter by index.

use super::wrap;
use crate::array::{Array, DType};
use crate::op::Op;
use crate::shape::{Shape, Split};
use crate::tensor::Tensor;

impl Tensor {
    /// Rows of one axis by index: extent `index.len()` on that axis. `index` is a U32 vector.
    ///
    /// # Panics
    /// If an index is out of range.
    #[track_caller]
    pub fn gather(&self, axis: usize, index: &Array) -> Tensor {
        check_index("gather", index);
        let shape = *self.shape();
        let split = shape.split_at_axis(axis);
        let y = self.device().gather(self.array(), index, split);
        let y = wrap(self, shape.with(axis, index.len()), self.dtype(), y);
        let rows = index.clone();
        let index = Tensor::from(index.clone());
        Tensor::record(Op::Gather(axis), y, &[self, &index], move |p| {
            vec![Some(p.dy().scatter_add(axis, &rows, shape[axis])), None]
        })
    }

    /// The adjoint of [`Tensor::gather`]: row `i` of one axis is added to row `index[i]` of zeros with
    /// `extent` rows.
    ///
    /// # Panics
    /// If an index is out of range or there are not as many as rows.
    #[track_caller]
    pub fn scatter_add(&self, axis: usize, index: &Array, extent: usize) -> Tensor {
        check_index("scatter_add", index);
        let shape = *self.shape();
        let split = Split { extent, ..shape.split_at_axis(axis) };
        assert_eq!(
            shape[axis],
            index.len(),
            "scatter_add: {shape:?} by {} indices on axis {axis}",
            index.len()
        );
        let y = self.device().scatter_add(self.array(), index, split);
        let y = wrap(self, shape.with(axis, extent), self.dtype(), y);
        let rows = index.clone();
        let index = Tensor::from(index.clone());
        Tensor::record(Op::ScatterAdd(axis), y, &[self, &index], move |p| {
            vec![Some(p.dy().gather(axis, &rows)), None]
        })
    }

    /// One element of each row of `(n, k)` by column: `(n)`. `column` is a U32 vector.
    #[track_caller]
    pub fn pick_columns(&self, column: &[usize]) -> Tensor {
        let shape = *self.shape();
        assert!(
            shape.rank() == 2 && shape[0] == column.len() && column.iter().all(|&c| c < shape[1]),
            "pick_columns: {} columns of {shape:?}",
            column.len()
        );
        let flat: Vec<u32> = column.iter().enumerate().map(|(i, &c)| (i * shape[1] + c) as u32).collect();
        let index = Array::new(self.device(), [flat.len()], &flat);
        self.reshape([shape.len()]).gather(0, &index)
    }

    /// Elements by flat position, recorded as `op` with the result under `shape`.
    pub(super) fn pick(&self, flat: &Array, op: Op, shape: Shape) -> Tensor {
        let from = *self.shape();
        let all = Split { outer: 1, extent: from.len(), inner: 1 };
        let y = wrap(self, shape, self.dtype(), self.device().gather(self.array(), flat, all));
        let index = flat.clone();
        Tensor::record(op, y, &[self], move |p| {
            let dy = p.dy().reshape([index.len()]);
            vec![Some(dy.scatter_add(0, &index, from.len()).reshape(from))]
        })
    }
}

#[track_caller]
fn check_index(op: &str, index: &Array) {
    assert!(
        index.dtype() == DType::U32 && index.shape().rank() == 1,
        "{op}: the index is {:?}{:?}, not a U32 vector",
        index.dtype(),
        index.shape()
    );
}
