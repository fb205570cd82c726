//! 2D convolution.

use crate::module::Role;
use crate::param_builder::ParamBuilder;
use std::sync::Arc;
use tarrl_tensor::{Conv, Tensor};

/// Convolution of `(n, h, w, inputs)` with a square kernel, with a bias or, where batch norm follows, without.
#[derive(Clone, Debug)]
pub struct Conv2d {
    name: Arc<str>,
    weight: Tensor,
    bias: Option<Tensor>,
    conv: Conv,
}

/// The extents of a [`Conv2d`]. The padding is `kernel / 2`, so that stride 1 keeps the size of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvConfig {
    /// Channels that come in.
    pub inputs: usize,
    /// Channels that go out.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
}

impl Conv2d {
    /// Weights from N(0, 2 / (kernel²·outputs)), the fan-out rule of He et al. (2015), eq. 14.
    pub fn new(params: &ParamBuilder, config: ConvConfig) -> Self {
        let ConvConfig { inputs, outputs, kernel, stride } = config;
        let deviation = (2.0 / (kernel * kernel * outputs) as f64).sqrt() as f32;
        let weight = params.normal("weight", &[kernel, kernel, inputs, outputs], deviation);
        Conv2d { name: params.name().into(), weight, bias: None, conv: padded(kernel, stride) }
    }

    /// With a bias; both from U(−1/√fan, 1/√fan) with `fan = kernel²·inputs`, PyTorch's default.
    pub fn with_bias(params: &ParamBuilder, config: ConvConfig) -> Self {
        let ConvConfig { inputs, outputs, kernel, stride } = config;
        let limit = (1.0 / (kernel * kernel * inputs) as f64).sqrt() as f32;
        let weight = params.uniform("weight", &[kernel, kernel, inputs, outputs], limit);
        let bias = Some(params.uniform("bias", &[outputs], limit));
        Conv2d { name: params.name().into(), weight, bias, conv: padded(kernel, stride) }
    }

    /// Square patches that do not overlap, `kernel` wide, with a bias as [`with_bias`](Conv2d::with_bias).
    pub fn patches(params: &ParamBuilder, [inputs, outputs, kernel]: [usize; 3]) -> Self {
        let config = ConvConfig { inputs, outputs, kernel, stride: kernel };
        let conv = Conv { stride: kernel, pad: 0, groups: 1 };
        Conv2d { conv, ..Conv2d::with_bias(params, config) }
    }

    /// The same convolution without a bias.
    pub(crate) fn without_bias(self) -> Self {
        Conv2d { bias: None, ..self }
    }

    /// The same convolution with another padding than `kernel / 2`.
    pub(crate) fn padded(self, pad: usize) -> Self {
        Conv2d { conv: Conv { pad, ..self.conv }, ..self }
    }

    /// From `(n, h, w, inputs)` to `(n, ⌈h / stride⌉, ⌈w / stride⌉, outputs)` for an odd kernel, in the type of `x`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = x.conv2d(&self.weight.cast(x.dtype()), self.conv);
        match &self.bias {
            Some(bias) => &y + &bias.cast(x.dtype()),
            None => y,
        }
    }

    /// `(outputs)`: the bias, if there is one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// `(kernel, kernel, inputs, outputs)`: the weights.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Stride, padding and groups.
    pub fn conv(&self) -> Conv {
        self.conv
    }

    /// Calls `f` with the weights and the bias, if there is one.
    pub fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        f(&format!("{}.weight", self.name), Role::Weight, &self.weight);
        if let Some(bias) = &self.bias {
            f(&format!("{}.bias", self.name), Role::Bias, bias);
        }
    }

    /// Calls `f` with the weights and the bias, to replace them.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        f(&format!("{}.weight", self.name), Role::Weight, &mut self.weight);
        if let Some(bias) = &mut self.bias {
            f(&format!("{}.bias", self.name), Role::Bias, bias);
        }
    }
}

/// The convolution whose stride 1 keeps the size of the map.
fn padded(kernel: usize, stride: usize) -> Conv {
    Conv { stride, pad: kernel / 2, groups: 1 }
}
