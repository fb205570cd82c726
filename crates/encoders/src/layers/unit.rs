//! Convolution, batch norm and activation: the unit that both encoders are built from.

use super::{Activation, BatchNorm, Conv2d, ConvConfig};
use crate::module::Role;
use crate::pass::Pass;
use crate::site::Site;
use tarrl_tensor::Tensor;

/// Convolution, batch norm, activation.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    pub(crate) conv: Conv2d,
    pub(crate) norm: BatchNorm,
    pub(crate) activation: Activation,
}

impl ConvNorm {
    /// The unit whose convolution stands at the first site and whose batch norm at the second.
    pub fn new([conv, norm]: [&Site; 2], config: ConvConfig, activation: Activation) -> Self {
        ConvNorm { conv: Conv2d::new(conv, config), norm: BatchNorm::new(norm, config.outputs), activation }
    }

    /// From `(n, h, w, inputs)` to `(n, ⌈h / stride⌉, ⌈w / stride⌉, outputs)`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Tensor {
        self.norm.forward(&self.conv.forward(x), self.activation, pass)
    }

    /// Calls `f` with every tensor.
    pub fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.conv.visit(f);
        self.norm.visit(f);
    }

    /// Calls `f` with every tensor, to replace it.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.conv.visit_mut(f);
        self.norm.visit_mut(f);
    }
}
