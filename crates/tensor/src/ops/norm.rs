//! Normalisations.

use super::wrap;
use crate::array::Array;
use crate::autodiff::{Pullback, Saved};
use crate::backend::{BatchNormSaved, Norm};
use crate::op::Op;
use crate::tensor::Tensor;

/// The result of [`Tensor::batch_norm`].
#[derive(Debug)]
pub struct BatchNorm {
    /// The normalised values, of the input's shape.
    pub y: Tensor,
    /// `(c)`: the mean of the batch, a constant.
    pub mean: Array,
    /// `(c)`: its biased variance, a constant.
    pub variance: Array,
}

impl Tensor {
    /// Batch normalisation of `(…, c)` with the statistics of the batch, `weight` and `bias` `(c)`,
    /// then ReLU if `norm.relu` (Ioffe & Szegedy 2015). Running statistics are the caller's.
    #[track_caller]
    pub fn batch_norm(&self, weight: &Tensor, bias: &Tensor, norm: Norm) -> BatchNorm {
        let c = channels("batch_norm", self, weight, bias);
        let out = self.device().batch_norm(self.array(), weight.array(), bias.array(), norm);
        let mean = wrap(self, [c], self.dtype(), out.mean);
        let variance = wrap(self, [c], self.dtype(), out.variance);
        let y = wrap(self, *self.shape(), self.dtype(), out.y);
        let saved = [Saved::new(self), Saved::new(weight), Saved::new(bias)];
        let stats = (mean.clone(), variance.clone());
        let y = Tensor::record(Op::BatchNorm(norm), y, &[self, weight, bias], move |p| {
            let [x, w, b] = [0, 1, 2].map(|i| p.get(&saved[i]));
            if p.is_recorded() {
                return composite_adjoint(p, &x, &w, &b, norm);
            }
            let saved = BatchNormSaved {
                x: x.array(),
                weight: w.array(),
                bias: b.array(),
                mean: &stats.0,
                variance: &stats.1,
            };
            let [dx, dw, db] = x.device().batch_norm_adjoint(&saved, p.dy().array(), norm);
            vec![
                p.need(0, || wrap(&x, *x.shape(), x.dtype(), dx).into()),
                p.need(1, || wrap(&x, [c], x.dtype(), dw).into()),
                p.need(2, || wrap(&x, [c], x.dtype(), db).into()),
            ]
        });
        BatchNorm { y, mean, variance }
    }

    /// `x·scale + shift` with one scale and shift `(c)` for each channel of `(…, c)`, then ReLU if asked:
    /// batch normalisation in inference, or a bias.
    #[track_caller]
    pub fn channel_affine(&self, scale: &Tensor, shift: &Tensor, relu: bool) -> Tensor {
        let c = channels("channel_affine", self, scale, shift);
        let y = self.device().channel_affine(self.array(), scale.array(), shift.array(), relu);
        let y = wrap(self, *self.shape(), self.dtype(), y);
        let op = Op::ChannelAffine { relu };
        let (x, s) = (Saved::new(self), Saved::new(scale));
        let vjp = move |p: &Pullback<'_>| {
            let dy = if relu { p.dy().mask(&p.y().detach()) } else { p.dy().clone() };
            vec![
                p.need(0, || &dy * &p.get(&s)),
                p.need(1, || (&dy * &p.get(&x)).sum_to([c])),
                p.need(2, || dy.sum_to([c])),
            ]
        };
        if relu {
            Tensor::record_keeping_output(op, y, &[self, scale, shift], vjp)
        } else {
            Tensor::record(op, y, &[self, scale, shift], vjp)
        }
    }

    /// Layer normalisation over the innermost axis, `weight` and `bias` of its extent (Ba et al. 2016).
    #[track_caller]
    pub fn layer_norm(&self, weight: &Tensor, bias: &Tensor, eps: f64) -> Tensor {
        channels("layer_norm", self, weight, bias);
        let axis = self.shape().rank() - 1;
        let centred = self - &self.mean(axis);
        let deviation = centred.square().mean(axis).add_scalar(eps).sqrt();
        &(&(&centred / &deviation) * weight) + bias
    }

    /// Each row of the innermost axis divided by `max(‖row‖₂, floor)`.
    #[track_caller]
    pub fn l2_normalize(&self, floor: f64) -> Tensor {
        let axis = self.shape().rank() - 1;
        let floor = Tensor::full(self.device(), [], self.dtype(), floor);
        self / &self.norm(axis).maximum(&floor)
    }
}

/// The adjoint of batch normalisation in differentiable ops: the statistics are functions of `x`.
fn composite_adjoint(
    p: &Pullback<'_>,
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    norm: Norm,
) -> Vec<Option<Tensor>> {
    let c = w.shape()[0];
    let rows = x.array().len() / c;
    let x = x.reshape([rows, c]);
    let centred = &x - &x.mean(0);
    let inverse = centred.square().mean(0).add_scalar(norm.eps).powf(-0.5);
    let hat = &centred * &inverse;
    let mut dy = p.dy().reshape([rows, c]);
    if norm.relu {
        dy = dy.mask(&(&(&hat * w) + b).detach());
    }
    vec![
        p.need(0, || {
            let dh = &dy * w;
            let along = &hat * &(&dh * &hat).mean(0);
            (&(&(&dh - &dh.mean(0)) - &along) * &inverse).reshape(*p.dy().shape())
        }),
        p.need(1, || (&dy * &hat).sum_to([c])),
        p.need(2, || dy.sum_to([c])),
    ]
}

#[track_caller]
fn channels(op: &str, x: &Tensor, weight: &Tensor, bias: &Tensor) -> usize {
    let c = x.shape().last().copied().unwrap_or(0);
    assert!(
        weight.shape()[..] == [c] && bias.shape()[..] == [c] && !x.array().is_empty(),
        "{op}: values {:?}, weight {:?}, bias {:?}",
        x.shape(),
        weight.shape(),
        bias.shape()
    );
    c
}
