//! An encoder at rest: inference only, nothing to train.

use crate::backbone::Backbone;
use crate::config::EncoderConfig;
use crate::encoder::normalize;
use crate::forward_context::BnBranch;
use crate::layers::{Activation, Affine, ConvBnRelu, Map};
use crate::precision::Precision;
use crate::walk::Walk;
use tarrl_tensor::{Array, Conv, DType, Op, Tensor, Transpose};

/// An encoder with running statistics folded into its convolutions and matrices, `W·scale` and a bias.
///
/// Differentiable in its input alone, so an attack through it computes no gradient of a weight. It
/// equals [`Encoder::forward`](crate::Encoder::forward) in inference up to rounding.
#[derive(Clone, Debug)]
pub struct InferenceEncoder {
    config: EncoderConfig,
    backbone: Backbone<Folded>,
    precision: Precision,
}

impl InferenceEncoder {
    pub(crate) fn new(
        config: &EncoderConfig,
        backbone: &Backbone<ConvBnRelu>,
        branch: BnBranch,
        precision: Precision,
    ) -> Self {
        let backbone = backbone.map(|unit| Folded::new(unit, branch, precision));
        InferenceEncoder { config: config.clone(), backbone, precision }
    }

    /// From images `(n, h, w, c)` with pixels in `[0, 1]` to representations `(n, d)`.
    ///
    /// # Panics
    /// If the images have another number of channels, another side where that matters, or another element type than
    /// the parameters.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.backbone.forward(&self.precision.of(&normalize(x, &self.config)), &mut Rest);
        h.cast(x.dtype())
    }
}

/// Nothing is remembered on the way.
struct Rest;

impl Walk<Folded> for Rest {
    #[track_caller]
    fn unit(&mut self, unit: &Folded, x: &Tensor) -> Tensor {
        unit.forward(x)
    }

    /// A convolution in bf16 adds the shortcut before it writes anything.
    #[track_caller]
    fn block_end(&mut self, last: &Folded, y: &Tensor, shortcut: Option<&Folded>, x: &Tensor) -> Tensor {
        let skip = shortcut.map_or_else(|| x.clone(), |unit| unit.forward(x));
        match last.fused() {
            Some((weight, conv, bias)) => y.conv2d_bias(weight, bias, Some(&skip), conv, true),
            None => last.forward(y).add_relu(&skip),
        }
    }
}

/// A unit whose normalization went into its map.
#[derive(Clone, Debug)]
struct Folded {
    map: FoldedMap,
    /// What is added, and after it the activation; nothing for a map that ends in a sum.
    bias: Option<Tensor>,
    activation: Activation,
}

#[derive(Clone, Debug)]
enum FoldedMap {
    Conv(Tensor, Conv),
    /// `(out, in)`
    Linear(Tensor),
    /// A scale of each channel.
    Scale(Tensor),
}

impl Folded {
    fn new(unit: &ConvBnRelu, branch: BnBranch, precision: Precision) -> Self {
        let affine = unit.norm.as_ref().map(|norm| norm.at(branch).affine());
        let affine = affine.map(|Affine { scale, shift }| [scale.detach(), shift.detach()]);
        let scale = affine.as_ref().map(|[scale, _]| scale);
        // The output channels are the innermost axis of a kernel and the outermost of a matrix.
        let map = match (&unit.map, scale) {
            (Map::Conv(conv), None) => FoldedMap::Conv(conv.weight().detach(), conv.conv()),
            (Map::Conv(conv), Some(scale)) => FoldedMap::Conv(&conv.weight().detach() * scale, conv.conv()),
            (Map::Linear(linear), None) => FoldedMap::Linear(linear.weight().detach()),
            (Map::Linear(linear), Some(scale)) => {
                FoldedMap::Linear(&linear.weight().detach() * &scale.reshape([scale.shape()[0], 1]))
            }
            (Map::Identity, scale) => FoldedMap::Scale(scale.expect("a unit without map has a norm").clone()),
        };
        // Folded in the type of the parameters, then stored as the map computes.
        let map = match map {
            FoldedMap::Conv(weight, conv) => FoldedMap::Conv(precision.of(&weight), conv),
            FoldedMap::Linear(weight) => FoldedMap::Linear(precision.of(&weight)),
            FoldedMap::Scale(scale) => FoldedMap::Scale(scale),
        };
        let own = unit.map.bias().map(Tensor::detach);
        let bias = match (own, affine) {
            (Some(bias), Some([scale, shift])) => Some(&(&bias * &scale) + &shift),
            (own, affine) => own.or(affine.map(|[_, shift]| shift)),
        };
        Folded { map, bias, activation: unit.activation }
    }

    /// The convolution and its bias, if they are one op: in bf16, which runs on GPUs alone, and of which no certificate is
    /// asked.
    fn fused(&self) -> Option<(&Tensor, Conv, &Tensor)> {
        match (&self.map, &self.bias) {
            (FoldedMap::Conv(weight, conv), Some(bias)) if weight.dtype() == DType::Bf16 => {
                Some((weight, *conv, bias))
            }
            _ => None,
        }
    }

    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let relu = self.activation == Activation::Relu;
        if let Some((weight, conv, bias)) = self.fused() {
            return x.conv2d_bias(weight, bias, None, conv, relu);
        }
        let y = match &self.map {
            FoldedMap::Conv(weight, conv) => x.conv2d(weight, *conv),
            FoldedMap::Linear(weight) => x.matmul_with(weight, Transpose::RIGHT),
            FoldedMap::Scale(scale) => {
                return x.channel_affine(scale, self.bias.as_ref().expect("a norm has a shift"), relu);
            }
        };
        match &self.bias {
            Some(bias) => shifted(&y, bias, relu),
            None if relu => y.relu(),
            None => y,
        }
    }
}

/// `x + bias` for each channel, then ReLU if asked, in one pass over the map; the adjoint of `channel_affine` would spend
/// another one on a product with one.
fn shifted(x: &Tensor, bias: &Tensor, relu: bool) -> Tensor {
    let one = Tensor::full(bias.device(), *bias.shape(), bias.dtype(), 1.0);
    let y = x.device().channel_affine(x.array(), one.array(), bias.array(), relu);
    let y = Array::wrap(x.device(), *x.shape(), x.dtype(), y);
    let (op, operands) = (Op::ChannelAffine { relu }, [x, &one, bias]);
    if relu {
        Tensor::record_keeping_output(op, y, &operands, |p| vec![Some(p.masked(&p.y().detach())), None, None])
    } else {
        Tensor::record(op, y, &operands, |p| vec![Some(p.dy().clone()), None, None])
    }
}
