//! Batch normalization and per-channel affine maps, with their adjoints.

use super::{same_dtype, wrap};
use crate::array::Array;
use crate::autodiff::{Pullback, Saved};
use crate::backend::{BatchNormSaved, Norm};
use crate::op::Op;
use crate::tensor::Tensor;

/// The result of [`Tensor::batch_norm`].
#[derive(Debug)]
pub struct BatchNorm {
    /// The normalized values, of the input's shape.
    pub y: Tensor,
    /// `(c)`: the mean of the batch, a constant.
    pub mean: Array,
    /// `(c)`: its biased variance, a constant.
    pub variance: Array,
}

impl Tensor {
    /// Batch normalization of `(…, c)` with the statistics of the batch, `weight` and `bias` `(c)`,
    /// then ReLU if `norm.relu` (Ioffe & Szegedy 2015). Running statistics are the caller's.
    #[track_caller]
    pub fn batch_norm(&self, weight: &Tensor, bias: &Tensor, norm: Norm) -> BatchNorm {
        let c = channels("batch_norm", self, weight, bias);
        let out = self.device().batch_norm(self.array(), weight.array(), bias.array(), norm);
        let mean = wrap(self, [c], weight.dtype(), out.mean);
        let variance = wrap(self, [c], weight.dtype(), out.variance);
        let y = wrap(self, *self.shape(), self.dtype(), out.y);
        let saved = [Saved::new(self), Saved::new(weight), Saved::new(bias)];
        let stats = (mean.clone(), variance.clone());
        let y = Tensor::record(Op::BatchNorm(norm), y, &[self, weight, bias], move |p| {
            let [x, w, b] = [0, 1, 2].map(|i| p.get(&saved[i]));
            if p.is_recorded() {
                return composite_adjoint(p, p.dy(), [&x, &w, &b], norm).into();
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
                p.need(1, || wrap(&x, [c], w.dtype(), dw).into()),
                p.need(2, || wrap(&x, [c], w.dtype(), db).into()),
            ]
        });
        BatchNorm { y, mean, variance }
    }

    /// `max(batch_norm(self) + skip, 0)`: the end of a residual block, which a GPU computes in one pass over memory.
    #[track_caller]
    pub fn batch_norm_add_relu(&self, weight: &Tensor, bias: &Tensor, skip: &Tensor, eps: f64) -> BatchNorm {
        let op = "batch_norm_add_relu";
        let c = channels(op, self, weight, bias);
        same_dtype(op, self, skip);
        assert_eq!(self.shape(), skip.shape(), "{op}: values {:?}, skip {:?}", self.shape(), skip.shape());
        let [x, w, b] = [self, weight, bias].map(Tensor::array);
        let out = self.device().batch_norm_add_relu(x, w, b, skip.array(), eps);
        let mean = wrap(self, [c], weight.dtype(), out.mean);
        let variance = wrap(self, [c], weight.dtype(), out.variance);
        let y = wrap(self, *self.shape(), self.dtype(), out.y);
        let saved = [Saved::new(self), Saved::new(weight), Saved::new(bias)];
        let stats = (mean.clone(), variance.clone());
        let operands = [self, weight, bias, skip];
        let y = Tensor::record_keeping_output(Op::BatchNormAddRelu { eps }, y, &operands, move |p| {
            let [x, w, b] = [0, 1, 2].map(|i| p.get(&saved[i]));
            let y = p.y().detach();
            if p.is_recorded() {
                let dz = p.dy().mask(&y);
                let [dx, dw, db] = composite_adjoint(p, &dz, [&x, &w, &b], Norm { eps, relu: false });
                return vec![dx, dw, db, p.need(3, || dz)];
            }
            let saved = BatchNormSaved {
                x: x.array(),
                weight: w.array(),
                bias: b.array(),
                mean: &stats.0,
                variance: &stats.1,
            };
            let (dy, more) = p.terms();
            let more = more.as_ref().map(Tensor::array);
            let adjoints = x.device().batch_norm_add_relu_adjoint(&saved, y.array(), dy.array(), more, eps);
            let [dx, dw, db, dskip] = adjoints;
            vec![
                p.need(0, || wrap(&x, *x.shape(), x.dtype(), dx).into()),
                p.need(1, || wrap(&x, [c], w.dtype(), dw).into()),
                p.need(2, || wrap(&x, [c], w.dtype(), db).into()),
                p.need(3, || wrap(&x, *x.shape(), x.dtype(), dskip).into()),
            ]
        });
        BatchNorm { y, mean, variance }
    }

    /// `x·scale + shift` with one scale and shift `(c)` for each channel of `(…, c)`, then ReLU if asked:
    /// batch normalization in inference, or a bias.
    #[track_caller]
    pub fn channel_affine(&self, scale: &Tensor, shift: &Tensor, relu: bool) -> Tensor {
        let c = channels("channel_affine", self, scale, shift);
        let y = self.device().channel_affine(self.array(), scale.array(), shift.array(), relu);
        let y = wrap(self, *self.shape(), self.dtype(), y);
        let op = Op::ChannelAffine { relu };
        let (x, s) = (Saved::new(self), Saved::new(scale));
        let vjp = move |p: &Pullback<'_>| {
            let dy = if relu { p.masked(&p.y().detach()) } else { p.dy().clone() };
            let (x, s) = (p.get(&x), p.get(&s));
            // Products with a scale of another type, and sums over the batch, are not rounded on the way.
            let wide = |t: &Tensor| t.cast(s.dtype());
            vec![
                p.need(0, || match s.dtype() == dy.dtype() {
                    true => &dy * &s,
                    false => dy.channel_affine(&s, &s.zeros_like(), false),
                }),
                p.need(1, || (&wide(&dy) * &wide(&x)).sum_to([c])),
                p.need(2, || wide(&dy).sum_to([c])),
            ]
        };
        if relu {
            Tensor::record_keeping_output(op, y, &[self, scale, shift], vjp)
        } else {
            Tensor::record(op, y, &[self, scale, shift], vjp)
        }
    }

    /// Layer normalization over the innermost axis, `weight` and `bias` of its extent (Ba et al. 2016).
    #[track_caller]
    pub fn layer_norm(&self, weight: &Tensor, bias: &Tensor, eps: f64) -> Tensor {
        channels("layer_norm", self, weight, bias);
        let axis = self.shape().rank() - 1;
        let x = self.cast(weight.dtype());
        let centered = &x - &x.mean(axis);
        let deviation = centered.square().mean(axis).add_scalar(eps).sqrt();
        (&(&(&centered / &deviation) * weight) + bias).cast(self.dtype())
    }

    /// Each row of the innermost axis divided by `max(‖row‖₂, floor)`, as PyTorch's `normalize`.
    ///
    /// Below the floor the function is linear: a row of zeros stays zero, and the gradient passes through it divided by the
    /// floor, 1e12 times as large for a floor of 1e-12. That is finite in f32, but one row of dead features then outweighs
    /// all others.
    #[track_caller]
    pub fn l2_normalize(&self, floor: f64) -> Tensor {
        let axis = self.shape().rank() - 1;
        let floor = Tensor::full(self.device(), [], self.dtype(), floor);
        self / &self.norm(axis).maximum(&floor)
    }
}

/// The adjoint of batch normalization in differentiable ops: the statistics are functions of `x`.
fn composite_adjoint(
    p: &Pullback<'_>,
    dy: &Tensor,
    [x, w, b]: [&Tensor; 3],
    norm: Norm,
) -> [Option<Tensor>; 3] {
    let c = w.shape()[0];
    let rows = x.array().len() / c;
    let (shape, dtype) = (*x.shape(), x.dtype());
    let x = x.cast(w.dtype()).reshape([rows, c]);
    let centered = &x - &x.mean(0);
    let inverse = centered.square().mean(0).add_scalar(norm.eps).powf(-0.5);
    let hat = &centered * &inverse;
    let mut dy = dy.cast(w.dtype()).reshape([rows, c]);
    if norm.relu {
        dy = dy.mask(&(&(&hat * w) + b).detach());
    }
    [
        p.need(0, || {
            let dh = &dy * w;
            let along = &hat * &(&dh * &hat).mean(0);
            (&(&(&dh - &dh.mean(0)) - &along) * &inverse).reshape(shape).cast(dtype)
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
    let wide = x.dtype().wide();
    assert!(
        weight.dtype() == wide && bias.dtype() == wide,
        "{op}: values of {:?} go with weights and biases of {wide:?}, not {:?} and {:?} (cast them)",
        x.dtype(),
        weight.dtype(),
        bias.dtype()
    );
    c
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::DType;
    use crate::autodiff::grad;
    use crate::shape::Shape;
    use crate::{Device, Key, Random, cpu};

    fn draw(device: &Device, name: &str, shape: &[usize]) -> Tensor {
        let keys = [Key::new(3).fold(name)];
        Tensor::random(device, Random::Normal, &keys, shape, DType::F32).reshape(Shape::new(shape))
    }

    /// On the CPU the end of a residual block is what it was before it had a name, to the bit.
    #[test]
    fn batch_norm_add_relu_equals_its_parts() {
        let device = cpu();
        let [x, skip] = ["x", "skip"].map(|name| draw(&device, name, &[1040, 17]).requires_grad());
        let [w, b] = ["w", "b"].map(|name| draw(&device, name, &[17]).requires_grad());
        let bits = |y: &Tensor| -> Vec<u32> {
            // A gradient of one term, and one of two.
            let losses = [y.square().sum_all(), (&y.square() + &y.mul_scalar(3.0)).sum_all()];
            let gradients: Vec<_> = losses.iter().flat_map(|loss| grad(loss, &[&x, &w, &b, &skip])).collect();
            [y].into_iter().chain(&gradients).flat_map(|t| t.to_vec::<f32>()).map(f32::to_bits).collect()
        };
        let whole = x.batch_norm_add_relu(&w, &b, &skip, 1e-5);
        let parts = x.batch_norm(&w, &b, Norm { eps: 1e-5, relu: false });
        assert_eq!(bits(&whole.y), bits(&parts.y.add_relu(&skip)));
        assert_eq!(whole.mean.to_vec::<f32>(), parts.mean.to_vec::<f32>());
        assert_eq!(whole.variance.to_vec::<f32>(), parts.variance.to_vec::<f32>());
    }

    #[test]
    fn l2_normalize_of_a_row_of_zeros_has_a_finite_gradient() {
        let x = Tensor::new(&cpu(), [2, 4], &[0.0f32, 0.0, 0.0, 0.0, 3.0, 0.0, 4.0, 0.0]).requires_grad();
        let y = x.l2_normalize(1e-12);
        assert_eq!(y.to_vec::<f32>(), [0.0, 0.0, 0.0, 0.0, 0.6, 0.0, 0.8, 0.0]);
        let gradient = grad(&y.sum_all(), &[&x])[0].to_vec::<f32>();
        assert_eq!(gradient[..4], [1e12; 4], "one over the floor");
        assert!(gradient[4..].iter().all(|g| g.abs() < 1.0), "{gradient:?}");
    }

    #[test]
    #[should_panic(expected = "batch_norm: values of F32 go with weights and biases of F32, not F64")]
    fn weights_of_another_type_are_refused() {
        let x = Tensor::full(&cpu(), [4, 2], DType::F32, 1.0);
        let w = Tensor::full(x.device(), [2], DType::F64, 1.0);
        x.batch_norm(&w, &w, Norm { eps: 1e-5, relu: false });
    }

    #[test]
    #[should_panic(expected = "cast: the CPU does not compute in bf16")]
    fn the_cpu_refuses_bf16() {
        Tensor::full(&cpu(), [4], DType::F32, 1.0).cast(DType::Bf16);
    }
}
