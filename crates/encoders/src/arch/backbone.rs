//! The backbone: one of the architectures over units `U`.

use super::conv_flat::ConvFlat;
use super::conv_small::ConvSmall;
use super::interpreter::Interpreter;
use super::mlp::Mlp;
use super::resnet::ResNet;
use super::vgg::Vgg;
use super::vit::Vit;
use super::wide_resnet::WideResNet;
use crate::config::{Arch, EncoderConfig};
use crate::layers::ConvBnRelu;
use crate::module::Role;
use crate::param_builder::ParamBuilder;
use tarrl_tensor::Tensor;

/// A network over units `U`: [`ConvBnRelu`] for training, units with folded batch norm for inference.
#[derive(Clone, Debug)]
pub(crate) enum Backbone<U> {
    ConvSmall(ConvSmall<U>),
    ConvFlat(ConvFlat<U>),
    ResNet(ResNet<U>),
    WideResNet(WideResNet<U>),
    Vgg(Vgg<U>),
    Mlp(Mlp<U>),
    /// Without batch norm, so that there is nothing to fold.
    Vit(Box<Vit>),
}

impl Backbone<ConvBnRelu> {
    pub(crate) fn new(config: &EncoderConfig, params: &ParamBuilder) -> Self {
        match config.arch {
            Arch::ConvSmall => Backbone::ConvSmall(ConvSmall::new(config, params)),
            Arch::ConvFlat => Backbone::ConvFlat(ConvFlat::new(config, params)),
            Arch::ResNet18
            | Arch::ResNet34
            | Arch::ResNet50
            | Arch::ResNet18Cifar
            | Arch::ResNet34Cifar
            | Arch::ResNet50Cifar => Backbone::ResNet(ResNet::new(config, params)),
            Arch::Wrn28x10 | Arch::Wrn34x10 => Backbone::WideResNet(WideResNet::new(config, params)),
            Arch::Vgg11 | Arch::Vgg13 | Arch::Vgg16 | Arch::Vgg19 => Backbone::Vgg(Vgg::new(config, params)),
            Arch::Mlp => Backbone::Mlp(Mlp::new(config, params)),
            Arch::VitTiny => Backbone::Vit(Box::new(Vit::new(config, params))),
        }
    }

    pub(crate) fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        match self {
            Backbone::Vit(vit) => vit.visit(f),
            _ => self.units().into_iter().for_each(|unit| unit.visit(f)),
        }
    }

    pub(crate) fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        match self {
            Backbone::Vit(vit) => vit.visit_mut(f),
            _ => self.units_mut().into_iter().for_each(|unit| unit.visit_mut(f)),
        }
    }
}

/// The same expression for every architecture.
macro_rules! for_each_arch {
    ($backbone:expr, $net:ident => $body:expr, $vit:ident => $other:expr) => {
        match $backbone {
            Backbone::ConvSmall($net) => $body,
            Backbone::ConvFlat($net) => $body,
            Backbone::ResNet($net) => $body,
            Backbone::WideResNet($net) => $body,
            Backbone::Vgg($net) => $body,
            Backbone::Mlp($net) => $body,
            Backbone::Vit($vit) => $other,
        }
    };
}

impl<U> Backbone<U> {
    /// From `(n, h, w, c)` to `(n, d)`.
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, interpreter: &mut dyn Interpreter<U>) -> Tensor {
        for_each_arch!(self, net => net.forward(x, interpreter), vit => vit.forward(x))
    }

    /// The same architecture over other units; a transformer, which has none, is detached.
    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> Backbone<V> {
        match self {
            Backbone::ConvSmall(net) => Backbone::ConvSmall(net.map(f)),
            Backbone::ConvFlat(net) => Backbone::ConvFlat(net.map(f)),
            Backbone::ResNet(net) => Backbone::ResNet(net.map(f)),
            Backbone::WideResNet(net) => Backbone::WideResNet(net.map(f)),
            Backbone::Vgg(net) => Backbone::Vgg(net.map(f)),
            Backbone::Mlp(net) => Backbone::Mlp(net.map(f)),
            Backbone::Vit(net) => Backbone::Vit(Box::new(net.detached())),
        }
    }

    /// The dimension of the representation.
    pub(crate) fn dim(&self, config: &EncoderConfig) -> usize {
        match self {
            Backbone::ConvSmall(_) => super::conv_small::dim(config),
            Backbone::ConvFlat(_) => super::conv_flat::dim(config),
            Backbone::ResNet(_) => super::resnet::dim(config),
            Backbone::WideResNet(_) => super::wide_resnet::dim(config),
            Backbone::Vgg(_) => super::vgg::dim(config),
            Backbone::Mlp(_) => super::mlp::dim(config),
            Backbone::Vit(_) => super::vit::dim(config),
        }
    }

    /// The units in the order of PyTorch's names.
    pub(crate) fn units(&self) -> Vec<&U> {
        for_each_arch!(self, net => net.units(), _vit => Vec::new())
    }

    /// The units in the order of PyTorch's names, to change them.
    fn units_mut(&mut self) -> Vec<&mut U> {
        for_each_arch!(self, net => net.units_mut(), _vit => Vec::new())
    }
}
