//! Map, batch norm and activation: the unit that encoders are built from.

use super::{Activation, BranchNorm, Conv2d, ConvConfig, Linear, LinearBias, Map};
use crate::config::BatchNormMode;
use crate::forward_context::{BnBranch, ForwardContext};
use crate::module::Role;
use crate::param_builder::ParamBuilder;
use tarrl_tensor::Tensor;

/// A convolution, a matrix or nothing; then a batch norm or nothing; then an activation.
#[derive(Clone, Debug)]
pub struct ConvBnRelu {
    pub(crate) map: Map,
    pub(crate) norm: Option<BranchNorm>,
    pub(crate) activation: Activation,
}

impl ConvBnRelu {
    /// The convolution stands at the first site, without bias, and the batch norm at the second.
    pub fn conv(
        [conv, norm]: [&ParamBuilder; 2],
        config: ConvConfig,
        norms: BatchNormMode,
        activation: Activation,
    ) -> Self {
        let map = Map::Conv(Conv2d::new(conv, config));
        ConvBnRelu { map, norm: Some(BranchNorm::new(norm, config.outputs, norms)), activation }
    }

    /// As [`conv`](ConvBnRelu::conv), of a convolution with a bias.
    pub fn biased(
        sites: [&ParamBuilder; 2],
        config: ConvConfig,
        norms: BatchNormMode,
        activation: Activation,
    ) -> Self {
        let map = Map::Conv(Conv2d::with_bias(sites[0], config));
        ConvBnRelu { map, ..ConvBnRelu::conv(sites, config, norms, activation) }
    }

    /// A convolution without bias, and nothing after it.
    pub fn bare(site: &ParamBuilder, config: ConvConfig) -> Self {
        ConvBnRelu { map: Map::Conv(Conv2d::new(site, config)), norm: None, activation: Activation::None }
    }

    /// A batch norm of `(…, channels)` and its activation, and nothing before it.
    pub fn norm(site: &ParamBuilder, channels: usize, norms: BatchNormMode, activation: Activation) -> Self {
        ConvBnRelu { map: Map::Identity, norm: Some(BranchNorm::new(site, channels, norms)), activation }
    }

    /// The matrix `(outputs, inputs)` stands at the first site, without bias, and the batch norm at the second.
    pub fn linear(
        [linear, norm]: [&ParamBuilder; 2],
        [inputs, outputs]: [usize; 2],
        norms: BatchNormMode,
    ) -> Self {
        let map = Map::Linear(Linear::new(linear, [inputs, outputs], LinearBias::Without));
        ConvBnRelu { map, norm: Some(BranchNorm::new(norm, outputs, norms)), activation: Activation::Relu }
    }

    /// The matrix `(outputs, inputs)` without bias, and nothing after it.
    pub fn matrix(site: &ParamBuilder, [inputs, outputs]: [usize; 2]) -> Self {
        let map = Map::Linear(Linear::new(site, [inputs, outputs], LinearBias::Without));
        ConvBnRelu { map, norm: None, activation: Activation::None }
    }

    /// The unit's map, normalization and activation of `x`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, pass: &mut ForwardContext) -> Tensor {
        let y = self.map.forward(x);
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
            (Some(norm), Activation::None) => norm.forward_add_relu(&self.map.forward(x), skip, pass),
            _ => self.forward(x, pass).add_relu(skip),
        }
    }

    /// The unit with the batch norm of one branch alone.
    pub(crate) fn only(&self, branch: BnBranch) -> Self {
        ConvBnRelu { norm: self.norm.as_ref().map(|norm| norm.only(branch)), ..self.clone() }
    }

    /// Calls `f` with every tensor.
    pub fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.map.visit(f);
        if let Some(norm) = &self.norm {
            norm.visit(f);
        }
    }

    /// Calls `f` with every tensor, to replace it.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.map.visit_mut(f);
        if let Some(norm) = &mut self.norm {
            norm.visit_mut(f);
        }
    }
}
