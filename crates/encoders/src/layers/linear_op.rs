//! The linear part of a unit.

use super::{Conv2d, Linear};
use crate::module::Role;
use tarrl_tensor::{Tensor, Transpose};

/// A convolution, a matrix, or nothing.
#[derive(Clone, Debug)]
pub(crate) enum Map {
    /// Of `(n, h, w, c)`.
    Conv(Conv2d),
    /// Of `(n, d)`.
    Linear(Linear),
    /// The normalization comes first.
    Identity,
}

impl Map {
    /// `W x + b`
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Map::Conv(conv) => conv.forward(x),
            Map::Linear(linear) => linear.forward(x),
            Map::Identity => x.clone(),
        }
    }

    /// `W x`
    #[track_caller]
    pub(crate) fn linear(&self, x: &Tensor) -> Tensor {
        match self {
            Map::Conv(conv) => x.conv2d(conv.weight(), conv.conv()),
            Map::Linear(linear) => x.matmul_with(linear.weight(), Transpose::RIGHT),
            Map::Identity => x.clone(),
        }
    }

    /// `|W| x`, with the absolute value of every weight.
    #[track_caller]
    pub(crate) fn absolute(&self, x: &Tensor) -> Tensor {
        match self {
            Map::Conv(conv) => x.conv2d(&conv.weight().abs(), conv.conv()),
            Map::Linear(linear) => x.matmul_with(&linear.weight().abs(), Transpose::RIGHT),
            Map::Identity => x.clone(),
        }
    }

    /// b, if there is one.
    pub(crate) fn bias(&self) -> Option<&Tensor> {
        match self {
            Map::Conv(conv) => conv.bias(),
            Map::Linear(linear) => linear.bias(),
            Map::Identity => None,
        }
    }

    pub(crate) fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        match self {
            Map::Conv(conv) => conv.visit(f),
            Map::Linear(linear) => linear.visit(f),
            Map::Identity => {}
        }
    }

    pub(crate) fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        match self {
            Map::Conv(conv) => conv.visit_mut(f),
            Map::Linear(linear) => linear.visit_mut(f),
            Map::Identity => {}
        }
    }
}
