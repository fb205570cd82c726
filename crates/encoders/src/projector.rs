//! The projector: the small network between representations and a contrastive loss.

use crate::config::ProjectorConfig;
use crate::layers::{Activation, BatchNorm, Linear, LinearBias};
use crate::module::{Module, Role};
use crate::pass::Pass;
use crate::site::Site;
use tarrl_tensor::{Device, Key, Tensor};

/// Linear, batch norm, ReLU, …, Linear (Chen et al. 2020, section 2.1), thrown away after training.
///
/// Names count as PyTorch's `Sequential` does: `projector.0` (linear), `projector.1` (batch norm),
/// `projector.3` (linear). Linear maps that a batch norm follows have no bias.
#[derive(Clone, Debug)]
pub struct Projector {
    hidden: Vec<(Linear, BatchNorm)>,
    last: Linear,
}

impl Projector {
    /// A projector of representations of dimension `dim`, with initial values drawn from `key`.
    ///
    /// # Panics
    /// If a width or the number of layers is zero.
    #[track_caller]
    pub fn new(config: &ProjectorConfig, dim: usize, device: &Device, key: Key) -> Self {
        let ProjectorConfig { hidden, out, layers } = *config;
        assert!(
            dim > 0 && hidden > 0 && out > 0 && layers > 0,
            "Projector::new: {config:?} on dimension {dim}"
        );
        let site = Site::new(device, key).at("projector");
        let at = |index: usize| site.at(&index.to_string());
        let width = |layer: usize| if layer == 0 { dim } else { hidden };
        let unit = |layer: usize| {
            let linear = Linear::new(&at(3 * layer), [width(layer), hidden], LinearBias::Without);
            (linear, BatchNorm::new(&at(3 * layer + 1), hidden))
        };
        let last = layers - 1;
        Projector {
            hidden: (0..last).map(unit).collect(),
            last: Linear::new(&at(3 * last), [width(last), out], LinearBias::With),
        }
    }

    /// From representations `(n, d)` to embeddings `(n, out)`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Tensor {
        let mut x = x.clone();
        for (linear, norm) in &self.hidden {
            x = norm.forward(&linear.forward(&x), Activation::Relu, pass);
        }
        self.last.forward(&x)
    }
}

impl Module for Projector {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        for (linear, norm) in &self.hidden {
            linear.visit(f);
            norm.visit(f);
        }
        self.last.visit(f);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        for (linear, norm) in &mut self.hidden {
            linear.visit_mut(f);
            norm.visit_mut(f);
        }
        self.last.visit_mut(f);
    }
}
