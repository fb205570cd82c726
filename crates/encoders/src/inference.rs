//! Inference encoder: eval mode, batch norm folded into convolutions and linear layers.

use crate::arch::Backbone;
use crate::arch::interpreter::Interpreter;
use crate::config::EncoderConfig;
use crate::forward_context::BnBranch;
use crate::layers::{Activation, Affine, ConvBnRelu, LinearOp};
use crate::pixels::normalize;
use crate::precision::Precision;
use tarrl_tensor::{Array, Conv, DType, Op, Tensor, Transpose};

/// An encoder with running statistics folded into its convolutions and matrices, `W·scale` and a bias.
///
/// Differentiable in its input alone, so an attack through it computes no gradient of a weight. It
/// equals [`Encoder::forward`](crate::Encoder::forward) in inference up to rounding.
#[derive(Clone, Debug)]
pub struct InferenceEncoder {
    config: EncoderConfig,
    backbone: Backbone<FoldedUnit>,
    precision: Precision,
}

impl InferenceEncoder {
    pub(crate) fn new(
        config: &EncoderConfig,
        backbone: &Backbone<ConvBnRelu>,
        branch: BnBranch,
        precision: Precision,
    ) -> Self {
        let backbone = backbone.map(|unit| FoldedUnit::new(unit, branch, precision));
        InferenceEncoder { config: config.clone(), backbone, precision }
    }

    /// From images `(n, h, w, c)` with pixels in `[0, 1]` to representations `(n, d)`.
    ///
    /// # Panics
    /// If the images have another number of channels, another side where that matters, or another element type than
    /// the parameters.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.backbone.forward(&self.precision.cast(&normalize(x, &self.config)), &mut InferencePass);
        h.cast(x.dtype())
    }
}

/// What is computed with, by name.
impl InferenceEncoder {
    /// The constants that [`forward`](InferenceEncoder::forward) computes with, batch norm folded into them, in the order of
    /// the checkpoint's names: `conv1.weight` and `conv1.bias` of a convolution, though a checkpoint has `bn1` in place of
    /// the latter.
    pub fn constants(&self) -> Vec<(String, Tensor)> {
        let mut constants = Vec::new();
        if let Backbone::Vit(vit) = &self.backbone {
            vit.visit(&mut |name, _, tensor| constants.push((name.to_owned(), tensor.clone())));
        }
        for unit in self.backbone.units() {
            let weight = match &unit.linear {
                FoldedLinear::Conv(weight, _)
                | FoldedLinear::Linear(weight)
                | FoldedLinear::Scale(weight) => weight,
            };
            constants.push((format!("{}.weight", unit.name), weight.clone()));
            constants.extend(unit.bias.iter().map(|bias| (format!("{}.bias", unit.name), bias.clone())));
        }
        constants
    }
}

/// The interpreter of folded units; it has no state.
struct InferencePass;

impl Interpreter<FoldedUnit> for InferencePass {
    #[track_caller]
    fn unit(&mut self, unit: &FoldedUnit, x: &Tensor) -> Tensor {
        unit.forward(x)
    }

    /// A convolution in bf16 adds the shortcut before it writes anything.
    #[track_caller]
    fn residual_end(
        &mut self,
        last: &FoldedUnit,
        y: &Tensor,
        shortcut: Option<&FoldedUnit>,
        x: &Tensor,
    ) -> Tensor {
        let skip = shortcut.map_or_else(|| x.clone(), |unit| unit.forward(x));
        match last.fused() {
            Some((weight, conv, bias)) => y.conv2d_bias(weight, bias, Some(&skip), conv, true),
            None => last.forward(y).add_relu(&skip),
        }
    }
}

/// A unit whose batch norm is folded into its linear op.
#[derive(Clone, Debug)]
struct FoldedUnit {
    /// That of its linear layer; of its norm where there is none.
    name: String,
    linear: FoldedLinear,
    /// What is added, and after it the activation; nothing for a map that ends in a sum.
    bias: Option<Tensor>,
    activation: Activation,
}

#[derive(Clone, Debug)]
enum FoldedLinear {
    Conv(Tensor, Conv),
    /// `(out, in)`
    Linear(Tensor),
    /// A scale of each channel.
    Scale(Tensor),
}

impl FoldedUnit {
    fn new(unit: &ConvBnRelu, branch: BnBranch, precision: Precision) -> Self {
        let affine = unit.norm.as_ref().map(|norm| norm.at(branch).affine());
        let affine = affine.map(|Affine { scale, shift }| [scale.detach(), shift.detach()]);
        let scale = affine.as_ref().map(|[scale, _]| scale);
        // The output channels are the innermost axis of a kernel and the outermost of a matrix.
        let map = match (&unit.linear, scale) {
            (LinearOp::Conv(conv), None) => FoldedLinear::Conv(conv.weight().detach(), conv.conv()),
            (LinearOp::Conv(conv), Some(scale)) => {
                FoldedLinear::Conv(&conv.weight().detach() * scale, conv.conv())
            }
            (LinearOp::Linear(linear), None) => FoldedLinear::Linear(linear.weight().detach()),
            (LinearOp::Linear(linear), Some(scale)) => {
                FoldedLinear::Linear(&linear.weight().detach() * &scale.reshape([scale.shape()[0], 1]))
            }
            (LinearOp::Identity, scale) => {
                FoldedLinear::Scale(scale.expect("a unit without map has a norm").clone())
            }
        };
        // FoldedUnit in the type of the parameters, then stored as the map computes.
        let map = match map {
            FoldedLinear::Conv(weight, conv) => FoldedLinear::Conv(precision.cast(&weight), conv),
            FoldedLinear::Linear(weight) => FoldedLinear::Linear(precision.cast(&weight)),
            FoldedLinear::Scale(scale) => FoldedLinear::Scale(scale),
        };
        let own = unit.linear.bias().map(Tensor::detach);
        let bias = match (own, affine) {
            (Some(bias), Some([scale, shift])) => Some(&(&bias * &scale) + &shift),
            (own, affine) => own.or(affine.map(|[_, shift]| shift)),
        };
        let mut name = String::new();
        unit.visit(&mut |tensor, _, _| {
            if name.is_empty() {
                name = tensor.rsplit_once('.').map_or(tensor, |(layer, _)| layer).to_owned();
            }
        });
        FoldedUnit { name, linear: map, bias, activation: unit.activation }
    }

    /// The convolution and its bias, if they are one op: in bf16, which runs on GPUs alone, and of which no certificate is
    /// asked.
    fn fused(&self) -> Option<(&Tensor, Conv, &Tensor)> {
        match (&self.linear, &self.bias) {
            (FoldedLinear::Conv(weight, conv), Some(bias)) if weight.dtype() == DType::Bf16 => {
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
        let y = match &self.linear {
            FoldedLinear::Conv(weight, conv) => x.conv2d(weight, *conv),
            FoldedLinear::Linear(weight) => x.matmul_with(weight, Transpose::RIGHT),
            FoldedLinear::Scale(scale) => {
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

/// `x + bias` for each channel, the innermost axis, then ReLU if asked, in one pass over the map; the adjoint of
/// `channel_affine` would spend another one on a product with one.
///
/// # Panics
/// If `bias (c)` does not fit `x (…, c)`.
#[track_caller]
pub fn shifted(x: &Tensor, bias: &Tensor, relu: bool) -> Tensor {
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
