//! The two networks as arrangements of units, whatever a unit is.

use crate::config::{Arch, EncoderConfig};
use crate::conv_small::ConvSmall;
use crate::layers::ConvNorm;
use crate::resnet::ResNet18;
use crate::site::Site;
use tarrl_tensor::Tensor;

/// How a unit is applied to its input.
pub(crate) type Apply<'a, U> = dyn FnMut(&U, &Tensor) -> Tensor + 'a;

/// A network over units `U`: [`ConvNorm`] to train, folded ones for inference. The arrangement is
/// written once for both.
#[derive(Clone, Debug)]
pub(crate) enum Backbone<U> {
    ConvSmall(ConvSmall<U>),
    ResNet18(ResNet18<U>),
}

impl Backbone<ConvNorm> {
    pub(crate) fn new(config: &EncoderConfig, site: &Site) -> Self {
        match config.arch {
            Arch::ConvSmall => Backbone::ConvSmall(ConvSmall::new(config, site)),
            Arch::ResNet18Cifar => Backbone::ResNet18(ResNet18::new(config, site)),
        }
    }
}

impl<U> Backbone<U> {
    /// From `(n, h, w, c)` to `(n, d)`.
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor, apply: &mut Apply<'_, U>) -> Tensor {
        match self {
            Backbone::ConvSmall(net) => net.forward(x, apply),
            Backbone::ResNet18(net) => net.forward(x, apply),
        }
    }

    /// The same arrangement of other units.
    pub(crate) fn map<V>(&self, f: impl Fn(&U) -> V) -> Backbone<V> {
        match self {
            Backbone::ConvSmall(net) => Backbone::ConvSmall(net.map(f)),
            Backbone::ResNet18(net) => Backbone::ResNet18(net.map(f)),
        }
    }

    /// The units in their order.
    pub(crate) fn units(&self) -> Vec<&U> {
        match self {
            Backbone::ConvSmall(net) => net.units(),
            Backbone::ResNet18(net) => net.units(),
        }
    }

    /// The units in their order, to change them.
    pub(crate) fn units_mut(&mut self) -> Vec<&mut U> {
        match self {
            Backbone::ConvSmall(net) => net.units_mut(),
            Backbone::ResNet18(net) => net.units_mut(),
        }
    }
}
