//! Matrix products, batched, each operand stored transposed or not.

use super::{same_dtype, wrap};
use crate::autodiff::Saved;
use crate::backend::{Product, Transpose};
use crate::op::Op;
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::sync::Arc;

impl Tensor {
    /// The product of matrices `(…, m, k) · (…, k, n)`; leading axes are equal.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        self.matmul_with(other, Transpose::NONE)
    }

    /// As [`Tensor::matmul`], with either operand stored transposed.
    #[track_caller]
    pub fn matmul_with(&self, other: &Tensor, transpose: Transpose) -> Tensor {
        same_dtype("matmul", self, other);
        let (product, shape) = match extents(self.shape(), other.shape(), transpose) {
            Some(found) => found,
            None => panic!("matmul: {:?} times {:?} with {transpose:?}", self.shape(), other.shape()),
        };
        let y = wrap(self, shape, self.dtype(), self.device().matmul(self.array(), other.array(), &product));
        let (a, b) = (Saved::new(self), Saved::new(other));
        if transpose == Transpose::RIGHT && shape.rank() == 2 && same_node(self, other) {
            // Of x·xᵀ both halves of the gradient are one product.
            return Tensor::record(Op::Matmul(transpose), y, &[self, other], move |p| {
                vec![p.need(0, || (p.dy() + &p.dy().t()).matmul(&p.get(&a))), None]
            });
        }
        Tensor::record(Op::Matmul(transpose), y, &[self, other], move |p| {
            let dy = p.dy();
            vec![
                p.need(0, || {
                    let b = p.get(&b);
                    match (transpose.a, transpose.b) {
                        (false, tb) => dy.matmul_with(&b, Transpose { a: false, b: !tb }),
                        (true, tb) => b.matmul_with(dy, Transpose { a: tb, b: true }),
                    }
                }),
                p.need(1, || {
                    let a = p.get(&a);
                    match (transpose.a, transpose.b) {
                        (ta, false) => a.matmul_with(dy, Transpose { a: !ta, b: false }),
                        (ta, true) => dy.matmul_with(&a, Transpose { a: true, b: ta }),
                    }
                }),
            ]
        })
    }
}

fn same_node(a: &Tensor, b: &Tensor) -> bool {
    a.node().zip(b.node()).is_some_and(|(a, b)| Arc::ptr_eq(a, b))
}

fn extents(a: &Shape, b: &Shape, t: Transpose) -> Option<(Product, Shape)> {
    let rank = a.rank();
    if rank < 2 || rank != b.rank() || a[..rank - 2] != b[..rank - 2] {
        return None;
    }
    let (m, k) = if t.a { (a[rank - 1], a[rank - 2]) } else { (a[rank - 2], a[rank - 1]) };
    let (k2, n) = if t.b { (b[rank - 1], b[rank - 2]) } else { (b[rank - 2], b[rank - 1]) };
    let batch = a[..rank - 2].iter().product();
    let shape = a.with(rank - 2, m).with(rank - 1, n);
    (k == k2).then_some((Product { batch, m, n, k, transpose: t }, shape))
}
