//! Projectors and predictors: the heads of self-supervised training, discarded afterwards.

use crate::config::BatchNormMode;
use crate::forward_context::ForwardContext;
use crate::head_config::{After, PredictorConfig, ProjectorConfig};
use crate::layers::{Activation, BranchNorm, Linear, LinearBias};
use crate::module::{Module, Role};
use crate::param_builder::ParamBuilder;
use tarrl_tensor::{Device, Key, Tensor, Transpose};

/// The floor of a row's norm before division.
const NORM_FLOOR: f64 = 1e-12;

/// Linear, batch norm, ReLU, …, Linear (Chen et al. 2020, section 2.1), and what [`ProjectorConfig`] puts after it.
///
/// Names count as PyTorch's `Sequential` does: `projector.0` (linear), `projector.1` (batch norm),
/// `projector.3` (linear); without hidden norms `projector.0`, `projector.2`. Linear maps that a batch norm follows have
/// no bias. The prototypes are `projector.prototypes.weight`, rows of any length whose directions count.
#[derive(Clone, Debug)]
pub struct Projector {
    layers: Sequential,
    prototypes: Option<Linear>,
}

impl Projector {
    /// A projector of representations of dimension `dim`, with initial values drawn from `key`.
    ///
    /// # Panics
    /// If a width or the number of layers is zero.
    #[track_caller]
    pub fn new(config: &ProjectorConfig, dim: usize, device: &Device, key: Key) -> Self {
        let ProjectorConfig { hidden, out, layers, hidden_norm, last, prototypes, norm } = *config;
        assert!(
            dim > 0 && hidden > 0 && out > 0 && layers > 0,
            "Projector::new: {config:?} on dimension {dim}"
        );
        let params = ParamBuilder::new(device, key).at("projector");
        let widths: Vec<usize> = [dim].into_iter().chain((1..layers).map(|_| hidden)).chain([out]).collect();
        Projector {
            layers: Sequential::new(&params, &widths, ([hidden_norm, last], norm)),
            prototypes: (prototypes > 0)
                .then(|| Linear::new(&params.at("prototypes"), [out, prototypes], LinearBias::Without)),
        }
    }

    /// From representations `(n, d)` to embeddings `(n, out)`, or to scores `(n, prototypes)` in [−1, 1].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, pass: &mut ForwardContext) -> Tensor {
        let z = self.layers.forward(x, pass);
        match &self.prototypes {
            None => z,
            Some(prototypes) => {
                let [z, w] = [&z, prototypes.weight()].map(|rows| rows.l2_normalize(NORM_FLOOR));
                z.matmul_with(&w, Transpose::RIGHT)
            }
        }
    }
}

impl Module for Projector {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.layers.visit(f);
        if let Some(prototypes) = &self.prototypes {
            prototypes.visit(f);
        }
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.layers.visit_mut(f);
        if let Some(prototypes) = &mut self.prototypes {
            prototypes.visit_mut(f);
        }
    }
}

/// Linear, batch norm, ReLU, Linear, from embeddings to predictions of the other view's (Grill et al. 2020, section
/// 3.1; Chen & He 2021). Names: `predictor.0`, `predictor.1`, `predictor.3`.
#[derive(Clone, Debug)]
pub struct Predictor {
    layers: Sequential,
}

impl Predictor {
    /// A predictor of embeddings of dimension `dim`, with initial values drawn from `key`.
    ///
    /// # Panics
    /// If a width is zero.
    #[track_caller]
    pub fn new(config: &PredictorConfig, dim: usize, device: &Device, key: Key) -> Self {
        let PredictorConfig { hidden, last, norm } = *config;
        assert!(dim > 0 && hidden > 0, "Predictor::new: {config:?} on dimension {dim}");
        let params = ParamBuilder::new(device, key).at("predictor");
        Predictor { layers: Sequential::new(&params, &[dim, hidden, dim], ([After::Norm, last], norm)) }
    }

    /// From embeddings `(n, d)` to predictions `(n, d)`.
    #[track_caller]
    pub fn forward(&self, z: &Tensor, pass: &mut ForwardContext) -> Tensor {
        self.layers.forward(z, pass)
    }
}

impl Module for Predictor {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.layers.visit(f);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.layers.visit_mut(f);
    }
}

/// Linear layers, each with its batch norm or none; ReLU between.
#[derive(Clone, Debug)]
struct Sequential {
    layers: Vec<(Linear, Option<BranchNorm>)>,
}

impl Sequential {
    /// Of `widths` from the input to the output; `[hidden, last]` give what follows a linear layer.
    fn new(
        params: &ParamBuilder,
        widths: &[usize],
        ([hidden, last], norms): ([After; 2], BatchNormMode),
    ) -> Self {
        let mut index = 0;
        let mut layers = Vec::new();
        for (i, pair) in widths.windows(2).enumerate() {
            let after = if i + 2 == widths.len() { last } else { hidden };
            let [linear, norm] = [index, index + 1].map(|i| params.at(&i.to_string()));
            let bias = if after == After::Nothing { LinearBias::With } else { LinearBias::Without };
            let norm = match after {
                After::Nothing => None,
                After::Norm => Some(BranchNorm::new(&norm, pair[1], norms)),
                After::PlainNorm => Some(BranchNorm::plain(&norm, pair[1], norms)),
            };
            // The linear map, the norm if there is one, the ReLU.
            index += 2 + usize::from(norm.is_some());
            layers.push((Linear::new(&linear, [pair[0], pair[1]], bias), norm));
        }
        Sequential { layers }
    }

    #[track_caller]
    fn forward(&self, x: &Tensor, pass: &mut ForwardContext) -> Tensor {
        let mut x = x.clone();
        let last = self.layers.len() - 1;
        for (i, (linear, norm)) in self.layers.iter().enumerate() {
            let activation = if i == last { Activation::None } else { Activation::Relu };
            x = linear.forward(&x);
            x = match norm {
                Some(norm) => norm.forward(&x, activation, pass),
                None if activation == Activation::Relu => x.relu(),
                None => x,
            };
        }
        x
    }

    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        for (linear, norm) in &self.layers {
            linear.visit(f);
            if let Some(norm) = norm {
                norm.visit(f);
            }
        }
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        for (linear, norm) in &mut self.layers {
            linear.visit_mut(f);
            if let Some(norm) = norm {
                norm.visit_mut(f);
            }
        }
    }
}
