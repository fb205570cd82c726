//! The networks as arrangements of units, whatever a unit is.

use crate::config::{Arch, EncoderConfig};
use crate::conv_flat::ConvFlat;
use crate::conv_small::ConvSmall;
use crate::layers::ConvBnRelu;
use crate::mlp::Mlp;
use crate::module::Role;
use crate::param_builder::ParamBuilder;
use crate::resnet::ResNet;
use crate::vgg::Vgg;
use crate::vit::Vit;
use crate::walk::Walk;
use crate::wide_resnet::WideResNet;
use tarrl_tensor::Tensor;

/// A network over units `U`: [`ConvBnRelu`] to train, folded ones for inference. The arrangement is written once for both.
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
    pub(crate) fn new(config: &EncoderConfig, site: &ParamBuilder) -> Self {
        match config.arch {
            Arch::ConvSmall => Backbone::ConvSmall(ConvSmall::new(config, site)),
            Arch::ConvFlat => Backbone::ConvFlat(ConvFlat::new(config, site)),
            Arch::ResNet18Cifar | Arch::ResNet34Cifar | Arch::ResNet50Cifar => {
                Backbone::ResNet(ResNet::new(config, site))
            }
            Arch::Wrn28x10 | Arch::Wrn34x10 => Backbone::WideResNet(WideResNet::new(config, site)),
            Arch::Vgg11 => Backbone::Vgg(Vgg::new(config, site)),
            Arch::Mlp => Backbone::Mlp(Mlp::new(config, site)),
            Arch::VitTiny => Backbone::Vit(Box::new(Vit::new(config, site))),
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

/// The same expression for every arrangement of units.
macro_rules! arrangement {
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
    pub(crate) fn forward(&self, x: &Tensor, walk: &mut dyn Walk<U>) -> Tensor {
        arrangement!(self, net => net.forward(x, walk), vit => vit.forward(x))
    }

    /// The same arrangement of other units; what is not made of units becomes constant.
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
            Backbone::ConvSmall(_) => crate::conv_small::dim(config),
            Backbone::ConvFlat(_) => crate::conv_flat::dim(config),
            Backbone::ResNet(_) => crate::resnet::dim(config),
            Backbone::WideResNet(_) => crate::wide_resnet::dim(config),
            Backbone::Vgg(_) => crate::vgg::dim(config),
            Backbone::Mlp(_) => crate::mlp::dim(config),
            Backbone::Vit(_) => crate::vit::dim(config),
        }
    }

    /// The units in the order of PyTorch's names.
    fn units(&self) -> Vec<&U> {
        arrangement!(self, net => net.units(), _vit => Vec::new())
    }

    /// The units in the order of PyTorch's names, to change them.
    fn units_mut(&mut self) -> Vec<&mut U> {
        arrangement!(self, net => net.units_mut(), _vit => Vec::new())
    }
}
