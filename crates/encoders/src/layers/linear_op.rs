//! The linear part of a unit: convolution, linear layer or identity.

use super::{Conv2d, Linear};
use crate::module::Role;
use tarrl_tensor::{Tensor, Transpose};

/// A convolution, a matrix, or nothing.
#[derive(Clone, Debug)]
pub(crate) enum LinearOp {
    /// Of `(n, h, w, c)`.
    Conv(Conv2d),
    /// Of `(n, d)`.
    Linear(Linear),
    /// The normalization comes first.
    Identity,
}

impl LinearOp {
    /// `W x + b`
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            LinearOp::Conv(conv) => conv.forward(x),
            LinearOp::Linear(linear) => linear.forward(x),
            LinearOp::Identity => x.clone(),
        }
    }

    /// `W x`
    #[track_caller]
    pub(crate) fn linear(&self, x: &Tensor) -> Tensor {
        match self {
            LinearOp::Conv(conv) => x.conv2d(conv.weight(), conv.conv()),
            LinearOp::Linear(linear) => x.matmul_with(linear.weight(), Transpose::RIGHT),
            LinearOp::Identity => x.clone(),
        }
    }

    /// `|W| x`, with the absolute value of every weight.
    #[track_caller]
    pub(crate) fn absolute(&self, x: &Tensor) -> Tensor {
        match self {
            LinearOp::Conv(conv) => x.conv2d(&conv.weight().abs(), conv.conv()),
            LinearOp::Linear(linear) => x.matmul_with(&linear.weight().abs(), Transpose::RIGHT),
            LinearOp::Identity => x.clone(),
        }
    }

    /// b, if there is one.
    pub(crate) fn bias(&self) -> Option<&Tensor> {
        match self {
            LinearOp::Conv(conv) => conv.bias(),
            LinearOp::Linear(linear) => linear.bias(),
            LinearOp::Identity => None,
        }
    }

    pub(crate) fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        match self {
            LinearOp::Conv(conv) => conv.visit(f),
            LinearOp::Linear(linear) => linear.visit(f),
            LinearOp::Identity => {}
        }
    }

    pub(crate) fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        match self {
            LinearOp::Conv(conv) => conv.visit_mut(f),
            LinearOp::Linear(linear) => linear.visit_mut(f),
            LinearOp::Identity => {}
        }
    }
}
