//! Layer normalization.

use crate::module::Role;
use crate::param_builder::ParamBuilder;
use std::sync::Arc;
use tarrl_tensor::Tensor;

/// Added to the variance, as transformers have it.
const EPS: f64 = 1e-6;

/// `γ·(x − mean) / √(variance + ε) + β` over the innermost axis (Ba et al. 2016); ε is 1e-6 unless another is given.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    name: Arc<str>,
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// γ = 1, β = 0.
    pub(crate) fn new(params: &ParamBuilder, extent: usize) -> Self {
        LayerNorm {
            name: params.name().into(),
            weight: params.full(extent, 1.0),
            bias: params.full(extent, 0.0),
            eps: EPS,
        }
    }

    /// The same with another ε.
    pub(crate) fn with_eps(self, eps: f64) -> Self {
        LayerNorm { eps, ..self }
    }

    /// Normalizes every row of `(…, extent)`.
    #[track_caller]
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(&self.weight, &self.bias, self.eps)
    }

    /// Calls `f` with scale and shift.
    pub(crate) fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        f(&format!("{}.weight", self.name), Role::NormScale, &self.weight);
        f(&format!("{}.bias", self.name), Role::NormShift, &self.bias);
    }

    /// Calls `f` with scale and shift, to replace them.
    pub(crate) fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        f(&format!("{}.weight", self.name), Role::NormScale, &mut self.weight);
        f(&format!("{}.bias", self.name), Role::NormShift, &mut self.bias);
    }
}
