//! Softmax, its logarithm, and cross-entropy.

use super::wrap;
use crate::array::{Array, DType};
use crate::autodiff::Saved;
use crate::op::Op;
use crate::tensor::Tensor;

impl Tensor {
    /// The softmax of the innermost axis.
    #[track_caller]
    pub fn softmax(&self) -> Tensor {
        let k = innermost("softmax", self);
        let y = wrap(self, *self.shape(), self.dtype(), self.device().softmax(self.array(), k, false));
        Tensor::record_keeping_output(Op::Softmax, y, &[self], move |p| {
            let (y, dy) = (p.y(), p.dy());
            vec![Some(if p.is_recorded() {
                let axis = y.shape().rank() - 1;
                &y * &(dy - &(dy * &y).sum(axis))
            } else {
                let dx = y.device().softmax_adjoint(y.array(), dy.array(), k, false);
                wrap(&y, *y.shape(), y.dtype(), dx).into()
            })]
        })
    }

    /// The logarithm of the softmax of the innermost axis.
    #[track_caller]
    pub fn log_softmax(&self) -> Tensor {
        let k = innermost("log_softmax", self);
        let y = wrap(self, *self.shape(), self.dtype(), self.device().softmax(self.array(), k, true));
        Tensor::record_keeping_output(Op::LogSoftmax, y, &[self], move |p| {
            let (y, dy) = (p.y(), p.dy());
            vec![Some(if p.is_recorded() {
                let axis = y.shape().rank() - 1;
                dy - &(&y.exp() * &dy.sum(axis))
            } else {
                let dx = y.device().softmax_adjoint(y.array(), dy.array(), k, true);
                wrap(&y, *y.shape(), y.dtype(), dx).into()
            })]
        })
    }

    /// The cross-entropy of each row of logits `(n, k)` against its label: `(n)`, in nats.
    ///
    /// Computed from the gaps to the label's logit, so that it keeps its relative precision where the
    /// loss is tiny, and its gradient does not vanish by rounding. `labels` is a U32 vector.
    ///
    /// # Panics
    /// If the shapes do not fit or a label is out of range.
    #[track_caller]
    pub fn cross_entropy(&self, labels: &Array) -> Tensor {
        let &[n, k] = &self.shape()[..] else { panic!("cross_entropy: logits of {:?}", self.shape()) };
        assert!(
            labels.dtype() == DType::U32 && labels.shape()[..] == [n],
            "cross_entropy: logits {:?}, labels {:?}{:?}",
            self.shape(),
            labels.dtype(),
            labels.shape()
        );
        let y = wrap(self, [n], self.dtype(), self.device().cross_entropy(self.array(), labels));
        let (logits, of) = (Saved::new(self), labels.clone());
        let labels = Tensor::from(labels.clone());
        Tensor::record(Op::CrossEntropy, y, &[self, &labels], move |p| {
            let (z, dy) = (p.get(&logits), p.dy());
            let dz = if p.is_recorded() {
                let hot: Vec<usize> = of.to_vec::<u32>().iter().map(|&l| l as usize).collect();
                let flat: Vec<u32> = hot.iter().enumerate().map(|(i, &l)| (i * k + l) as u32).collect();
                let index = Array::new(z.device(), [n], &flat);
                let one_hot = dy.scatter_add(0, &index, n * k).reshape([n, k]);
                &(&z.softmax() * &dy.reshape([n, 1])) - &one_hot
            } else {
                let dz = z.device().cross_entropy_adjoint(z.array(), &of, dy.array());
                wrap(&z, [n, k], z.dtype(), dz).into()
            };
            vec![Some(dz), None]
        })
    }
}

#[track_caller]
fn innermost(op: &str, x: &Tensor) -> usize {
    match x.shape().last() {
        Some(&k) if k > 0 => k,
        _ => panic!("{op}: shape {:?} has no innermost axis", x.shape()),
    }
}
