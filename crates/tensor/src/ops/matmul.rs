//! Matrix products, batched, each operand stored transposed or not.

use super::{same_dtype, wrap};
use crate::array::Array;
use crate::autodiff::{Pullback, Saved};
use crate::backend::{Binary, Product, Transpose};
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
        record(self, other, transpose, y)
    }

    /// `self · wᵀ + bias` of rows `(n, k)`, weights `(m, k)` and a bias `(m)`, which a GPU adds before it writes the
    /// product. Recorded as the product and the sum that it is.
    #[track_caller]
    pub fn linear(&self, w: &Tensor, bias: &Tensor) -> Tensor {
        same_dtype("linear", self, w);
        same_dtype("linear", self, bias);
        let (&[n, k], &[m, k2]) = (&self.shape()[..], &w.shape()[..]) else {
            panic!("linear: rows {:?}, weights {:?}", self.shape(), w.shape())
        };
        assert!(
            k == k2 && bias.shape()[..] == [m],
            "linear: rows {:?}, weights {:?}, bias {:?}",
            self.shape(),
            w.shape(),
            bias.shape()
        );
        let y = self.device().linear(self.array(), w.array(), bias.array(), [n, m, k]);
        let y = wrap(self, [n, m], self.dtype(), y);
        if !self.tracks_grad() && !w.tracks_grad() && bias.tracks_grad() {
            // The product would be a constant of the sum's record, so it has to be there.
            return &self.matmul_with(w, Transpose::RIGHT) + bias;
        }
        // The node of the product keeps no value, so that it may be given the one that comes after it.
        let product = record(self, w, Transpose::RIGHT, y.clone());
        let shape = *bias.shape();
        Tensor::record(Op::Binary(Binary::Add), y, &[&product, bias], move |p| {
            vec![p.need(0, || p.dy().clone()), p.need(1, || p.dy().sum_to(shape))]
        })
    }
}

/// The product `y` with its adjoint.
fn record(left: &Tensor, right: &Tensor, transpose: Transpose, y: Array) -> Tensor {
    let (a, b) = (Saved::new(left), Saved::new(right));
    if transpose == Transpose::RIGHT && y.shape().rank() == 2 && same_node(left, right) {
        // Of x·xᵀ both halves of the gradient are one product.
        return Tensor::record(Op::Matmul(transpose), y, &[left, right], move |p| {
            vec![p.need(0, || both_halves(p).matmul(&p.get(&a))), None]
        });
    }
    Tensor::record(Op::Matmul(transpose), y, &[left, right], move |p| {
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

/// `dy + dyᵀ`
fn both_halves(p: &Pullback<'_>) -> Tensor {
    let dy = p.dy();
    if p.is_recorded() {
        return dy + &dy.t();
    }
    wrap(dy, *dy.shape(), dy.dtype(), dy.device().add_transposed(dy.array())).into()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::grad;
    use crate::cpu;

    /// Whatever is tracked, the fused map has the bits and the gradients of its parts.
    #[test]
    fn linear_equals_matmul_plus_bias() {
        let device = cpu();
        let plain = |shape: &[usize], f: f32| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * f).sin()).collect();
            Tensor::new(&device, shape, &values)
        };
        let operands = [plain(&[5, 3], 0.7), plain(&[4, 3], 1.3), plain(&[4], 2.1)];
        for tracked in 1..8 {
            let [x, w, b] = [0, 1, 2].map(|i| {
                if tracked >> i & 1 == 1 { operands[i].requires_grad() } else { operands[i].clone() }
            });
            let bits = |y: Tensor| -> Vec<u32> {
                let gradients = grad(&y.square().sum_all(), &[&x, &w, &b]);
                [&y].into_iter().chain(&gradients).flat_map(|t| t.to_vec::<f32>()).map(f32::to_bits).collect()
            };
            let parts = &x.matmul_with(&w, Transpose::RIGHT) + &b;
            assert_eq!(bits(x.linear(&w, &b)), bits(parts), "tracked {tracked:03b}");
        }
    }
}
