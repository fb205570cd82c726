//! An encoder at rest: inference only, nothing to train.

use crate::backbone::Backbone;
use crate::config::EncoderConfig;
use crate::encoder::normalize;
use crate::layers::{Activation, Affine, ConvNorm};
use tarrl_tensor::{Array, Conv, Op, Tensor};

/// An encoder with running statistics folded into its convolutions, `W·scale` and a bias.
///
/// Differentiable in its input alone, so an attack through it computes no gradient of a weight. It
/// equals [`Encoder::forward`](crate::Encoder::forward) in inference up to rounding.
#[derive(Clone, Debug)]
pub struct Frozen {
    config: EncoderConfig,
    backbone: Backbone<Folded>,
}

impl Frozen {
    pub(crate) fn new(config: &EncoderConfig, backbone: &Backbone<ConvNorm>) -> Self {
        Frozen { config: config.clone(), backbone: backbone.map(Folded::new) }
    }

    /// From images `(n, h, w, c)` with pixels in `[0, 1]` to representations `(n, d)`.
    ///
    /// # Panics
    /// If the images have another number of channels or another element type than the parameters.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.backbone.forward(&normalize(x, &self.config), &mut |unit, x| unit.forward(x))
    }
}

/// A convolution with bias and activation.
#[derive(Clone, Debug)]
struct Folded {
    weight: Tensor,
    one: Tensor,
    bias: Tensor,
    conv: Conv,
    activation: Activation,
}

impl Folded {
    fn new(unit: &ConvNorm) -> Self {
        let Affine { scale, shift } = unit.norm.affine();
        let (scale, bias) = (scale.detach(), shift.detach());
        Folded {
            // The output channels are the innermost axis.
            weight: &unit.conv.weight().detach() * &scale,
            one: Tensor::full(scale.device(), *scale.shape(), scale.dtype(), 1.0),
            bias,
            conv: unit.conv.conv(),
            activation: unit.activation,
        }
    }

    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.conv2d(&self.weight, self.conv);
        let relu = self.activation == Activation::Relu;
        // One pass over the map for bias and activation; the adjoint of `channel_affine` would spend
        // another one on a product with one.
        let y = x.device().channel_affine(x.array(), self.one.array(), self.bias.array(), relu);
        let y = Array::wrap(x.device(), *x.shape(), x.dtype(), y);
        let (op, operands) = (Op::ChannelAffine { relu }, [&x, &self.one, &self.bias]);
        if relu {
            Tensor::record_keeping_output(op, y, &operands, |p| {
                vec![Some(p.dy().mask(&p.y().detach())), None, None]
            })
        } else {
            Tensor::record(op, y, &operands, |p| vec![Some(p.dy().clone()), None, None])
        }
    }
}
