//! Convolution of `(n, h, w, c)` and its two adjoints, each the adjoint of the others.

use super::{same_dtype, wrap};
use crate::array::Array;
use crate::autodiff::{Pullback, Saved};
use crate::backend::{Binary, Conv, ConvShape};
use crate::op::Op;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Tensor {
    /// Cross-correlation of images `(n, h, w, c_in)` with weights `(kh, kw, c_in/groups, c_out)`.
    #[track_caller]
    pub fn conv2d(&self, w: &Tensor, conv: Conv) -> Tensor {
        same_dtype("conv2d", self, w);
        let shape = conv_shape(self.shape(), w.shape(), conv).unwrap_or_else(|| {
            panic!("conv2d: images {:?}, weights {:?}, {conv:?}", self.shape(), w.shape())
        });
        let y = self.device().conv2d(self.array(), w.array(), &shape);
        // Only the weights' adjoint reads the images.
        let (sx, sw) = (w.tracks_grad().then(|| Saved::new(self)), Saved::new(w));
        Tensor::record(Op::Conv2d(conv), wrap(self, shape.output(), self.dtype(), y), &[self, w], move |p| {
            vec![
                p.need(0, || conv2d_input(p.dy(), &p.get(&sw), shape)),
                sx.as_ref().and_then(|sx| p.need(1, || conv2d_weight(&p.get(sx), p.dy(), shape))),
            ]
        })
    }
}

impl Tensor {
    /// [`conv2d`](Tensor::conv2d) plus `bias` `(c_out)`, plus `skip` of the result's shape if there is one, then ReLU if
    /// asked: the end of a unit or of a residual block in eval mode, which a GPU computes without writing what is in between.
    /// The bias is of the type [`DType::wide`](crate::DType::wide).
    #[track_caller]
    pub fn conv2d_bias(
        &self,
        w: &Tensor,
        bias: &Tensor,
        skip: Option<&Tensor>,
        conv: Conv,
        relu: bool,
    ) -> Tensor {
        let op = "conv2d_bias";
        same_dtype(op, self, w);
        let shape = conv_shape(self.shape(), w.shape(), conv)
            .unwrap_or_else(|| panic!("{op}: images {:?}, weights {:?}, {conv:?}", self.shape(), w.shape()));
        assert!(
            bias.shape()[..] == [shape.c_out] && bias.dtype() == self.dtype().wide(),
            "{op}: {} channels, bias {:?} of {:?}",
            shape.c_out,
            bias.shape(),
            bias.dtype()
        );
        if let Some(skip) = skip {
            same_dtype(op, self, skip);
            assert_eq!(skip.shape()[..], shape.output()[..], "{op}: skip");
        }
        let y = composed(self, [w, bias], skip, &shape, relu);
        let (sx, sw) = (w.tracks_grad().then(|| Saved::new(self)), Saved::new(w));
        let adds = skip.is_some();
        let vjp = move |p: &Pullback<'_>| {
            let dy = if relu { p.masked(&p.y().detach()) } else { p.dy().clone() };
            let mut adjoints = vec![
                p.need(0, || conv2d_input(&dy, &p.get(&sw), shape)),
                sx.as_ref().and_then(|sx| p.need(1, || conv2d_weight(&p.get(sx), &dy, shape))),
                p.need(2, || dy.cast(dy.dtype().wide()).sum_to([shape.c_out])),
            ];
            if adds {
                adjoints.push(p.need(3, || dy.clone()));
            }
            adjoints
        };
        let op = Op::Conv2dBias { conv, relu };
        let operands = [&[self, w, bias][..], skip.as_slice()].concat();
        if relu {
            Tensor::record_keeping_output(op, y, &operands, vjp)
        } else {
            Tensor::record(op, y, &operands, vjp)
        }
    }
}

/// The value of [`Tensor::conv2d_bias`]: as one op where the device has it.
fn composed(
    x: &Tensor,
    [w, bias]: [&Tensor; 2],
    skip: Option<&Tensor>,
    shape: &ConvShape,
    relu: bool,
) -> Array {
    let device = x.device();
    let [images, weights, bias] = [x, w, bias].map(Tensor::array);
    let skip = skip.map(Tensor::array);
    let of = |buffer| Array::wrap(device, shape.output(), x.dtype(), buffer);
    if let Some(y) = device.conv2d_bias([images, weights, bias], skip, shape, relu) {
        return of(y);
    }
    let one = Array::full(device, [shape.c_out], bias.dtype(), 1.0);
    let y = of(device.conv2d(images, weights, shape));
    let y = of(device.channel_affine(&y, &one, bias, relu && skip.is_none()));
    match skip {
        None => y,
        Some(skip) if relu => of(device.add_relu(&y, skip)),
        Some(skip) => of(device.binary(Binary::Add, &y, skip, y.shape())),
    }
}

/// The adjoint in the input: from `(n, oh, ow, c_out)` to `(n, h, w, c_in)`.
fn conv2d_input(dy: &Tensor, w: &Tensor, shape: ConvShape) -> Tensor {
    let dx = dy.device().conv2d_input(dy.array(), w.array(), &shape);
    let (sdy, sw) = (Saved::new(dy), Saved::new(w));
    Tensor::record(Op::Conv2dInput(shape.conv), wrap(dy, shape.input(), dy.dtype(), dx), &[dy, w], move |p| {
        vec![
            p.need(0, || p.dy().conv2d(&p.get(&sw), shape.conv)),
            p.need(1, || conv2d_weight(p.dy(), &p.get(&sdy), shape)),
        ]
    })
}

/// The adjoint in the weights: from images and `(n, oh, ow, c_out)` to `(kh, kw, c_in/groups, c_out)`.
fn conv2d_weight(x: &Tensor, dy: &Tensor, shape: ConvShape) -> Tensor {
    let dw = x.device().conv2d_weight(x.array(), dy.array(), &shape);
    let (sx, sdy) = (Saved::new(x), Saved::new(dy));
    Tensor::record(Op::Conv2dWeight(shape.conv), wrap(x, shape.weight(), x.dtype(), dw), &[x, dy], move |p| {
        vec![
            p.need(0, || conv2d_input(&p.get(&sdy), p.dy(), shape)),
            p.need(1, || p.get(&sx).conv2d(p.dy(), shape.conv)),
        ]
    })
}

fn conv_shape(x: &Shape, w: &Shape, conv: Conv) -> Option<ConvShape> {
    let (&[n, h, width, c_in], &[kh, kw, per_group, c_out]) = (&x[..], &w[..]) else { return None };
    let fits = conv.stride > 0
        && conv.groups > 0
        && h + 2 * conv.pad >= kh
        && width + 2 * conv.pad >= kw
        && c_in == per_group * conv.groups
        && c_out.is_multiple_of(conv.groups);
    fits.then_some(ConvShape { n, h, w: width, c_in, kh, kw, c_out, conv })
}
