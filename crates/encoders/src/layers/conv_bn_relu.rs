//! Conv-BN-ReLU units: convolution or linear layer, batch norm, activation.

use super::{Activation, BranchNorm, Conv2d, ConvConfig, Linear, LinearBias, LinearOp};
use crate::config::BatchNormMode;
use crate::forward_context::{BnBranch, ForwardContext};
use crate::module::Role;
use crate::param_builder::ParamBuilder;
use tarrl_tensor::Tensor;

/// A convolution, a linear layer or nothing; then a batch norm or nothing; then an activation.
#[derive(Clone, Debug)]
pub(crate) struct ConvBnRelu {
    pub(crate) linear: LinearOp,
    pub(crate) norm: Option<BranchNorm>,
    pub(crate) activation: Activation,
}

impl ConvBnRelu {
    /// A convolution without bias named by the first builder, and a batch norm named by the second.
    pub(crate) fn conv(
        [conv, norm]: [&ParamBuilder; 2],
        config: ConvConfig,
        norms: BatchNormMode,
        activation: Activation,
    ) -> Self {
        let map = LinearOp::Conv(Conv2d::new(conv, config));
        ConvBnRelu { linear: map, norm: Some(BranchNorm::new(norm, config.outputs, norms)), activation }
    }

    /// As [`conv`](ConvBnRelu::conv), with another padding than half of the kernel.
    pub(crate) fn conv_padded(
        names: [&ParamBuilder; 2],
        (config, pad): (ConvConfig, usize),
        norms: BatchNormMode,
        activation: Activation,
    ) -> Self {
        let map = LinearOp::Conv(Conv2d::new(names[0], config).padded(pad));
        let norm = Some(BranchNorm::new(names[1], config.outputs, norms));
        ConvBnRelu { linear: map, norm, activation }
    }

    /// As [`conv`](ConvBnRelu::conv), of a convolution with a bias.
    pub(crate) fn conv_with_bias(
        [conv, norm]: [&ParamBuilder; 2],
        config: ConvConfig,
        norms: BatchNormMode,
        activation: Activation,
    ) -> Self {
        let map = LinearOp::Conv(Conv2d::with_bias(conv, config));
        ConvBnRelu { linear: map, norm: Some(BranchNorm::new(norm, config.outputs, norms)), activation }
    }

    /// A convolution without bias, and nothing after it.
    pub(crate) fn conv_only(params: &ParamBuilder, config: ConvConfig) -> Self {
        ConvBnRelu {
            linear: LinearOp::Conv(Conv2d::new(params, config)),
            norm: None,
            activation: Activation::None,
        }
    }

    /// A batch norm of `(…, channels)` and its activation, and nothing before it.
    pub(crate) fn norm_only(
        params: &ParamBuilder,
        channels: usize,
        norms: BatchNormMode,
        activation: Activation,
    ) -> Self {
        ConvBnRelu {
            linear: LinearOp::Identity,
            norm: Some(BranchNorm::new(params, channels, norms)),
            activation,
        }
    }

    /// A linear layer `(outputs, inputs)` without bias named by the first builder, and a batch norm named by the second.
    pub(crate) fn linear(
        [linear, norm]: [&ParamBuilder; 2],
        [inputs, outputs]: [usize; 2],
        norms: BatchNormMode,
    ) -> Self {
        let map = LinearOp::Linear(Linear::new(linear, [inputs, outputs], LinearBias::Without));
        ConvBnRelu {
            linear: map,
            norm: Some(BranchNorm::new(norm, outputs, norms)),
            activation: Activation::Relu,
        }
    }

    /// A linear layer `(outputs, inputs)` without bias, and nothing after it.
    pub(crate) fn linear_only(params: &ParamBuilder, [inputs, outputs]: [usize; 2]) -> Self {
        let map = LinearOp::Linear(Linear::new(params, [inputs, outputs], LinearBias::Without));
        ConvBnRelu { linear: map, norm: None, activation: Activation::None }
    }

    /// Linear op, normalization and activation of `x`.
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, pass: &mut ForwardContext) -> Tensor {
        let y = self.linear.forward(x);
        match (&self.norm, self.activation) {
            (Some(norm), activation) => norm.forward(&y, activation, pass),
            (None, Activation::Relu) => y.relu(),
            (None, Activation::None) => y,
        }
    }

    /// `max(forward(x) + skip, 0)` of a unit that ends without activation, in one pass over memory where it normalizes
    /// with the statistics of the batch.
    #[track_caller]
    pub(crate) fn forward_add_relu(&self, x: &Tensor, skip: &Tensor, pass: &mut ForwardContext) -> Tensor {
        match (&self.norm, self.activation) {
            (Some(norm), Activation::None) => norm.forward_add_relu(&self.linear.forward(x), skip, pass),
            _ => self.forward(x, pass).add_relu(skip),
        }
    }

    /// The unit with the batch norm of one branch alone.
    pub(crate) fn only(&self, branch: BnBranch) -> Self {
        ConvBnRelu { norm: self.norm.as_ref().map(|norm| norm.only(branch)), ..self.clone() }
    }

    /// Calls `f` with every tensor.
    pub(crate) fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.linear.visit(f);
        if let Some(norm) = &self.norm {
            norm.visit(f);
        }
    }

    /// Calls `f` with every tensor, to replace it.
    pub(crate) fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.linear.visit_mut(f);
        if let Some(norm) = &mut self.norm {
            norm.visit_mut(f);
        }
    }
}
