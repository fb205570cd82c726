//! Linear layer.

use crate::module::Role;
use crate::param_builder::ParamBuilder;
use std::sync::Arc;
use tarrl_tensor::{Tensor, Transpose};

/// `x·Wᵀ + b` with `W` of `(outputs, inputs)`.
#[derive(Clone, Debug)]
pub struct Linear {
    name: Arc<str>,
    weight: Tensor,
    bias: Option<Tensor>,
}

/// Whether a [`Linear`] adds a bias. Before a batch norm it would be subtracted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearBias {
    /// It does.
    With,
    /// It does not.
    Without,
}

impl Linear {
    /// Weights and bias from U(−1/√inputs, 1/√inputs).
    pub fn new(params: &ParamBuilder, [inputs, outputs]: [usize; 2], bias: LinearBias) -> Self {
        let limit = (1.0 / (inputs as f64).sqrt()) as f32;
        let weight = params.uniform("weight", &[outputs, inputs], limit);
        let bias = (bias == LinearBias::With).then(|| params.uniform("bias", &[outputs], limit));
        Linear { name: params.name().into(), weight, bias }
    }

    /// With the given weights `(outputs, inputs)` and a bias of zero.
    pub(crate) fn with_weight(params: &ParamBuilder, weight: Tensor, outputs: usize) -> Self {
        Linear { name: params.name().into(), weight, bias: Some(params.full(outputs, 0.0)) }
    }

    /// `(outputs, inputs)`: the weights.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `(outputs)`: the bias, if there is one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// From `(n, inputs)` to `(n, outputs)`, in the type of `x`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let weight = self.weight.cast(x.dtype());
        match &self.bias {
            Some(bias) => x.linear(&weight, &bias.cast(x.dtype())),
            None => x.matmul_with(&weight, Transpose::RIGHT),
        }
    }

    /// Calls `f` with the weights and the bias, if there is one.
    pub fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        f(&format!("{}.weight", self.name), Role::Weight, &self.weight);
        if let Some(bias) = &self.bias {
            f(&format!("{}.bias", self.name), Role::Bias, bias);
        }
    }

    /// Calls `f` with the weights and the bias, to replace them.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        f(&format!("{}.weight", self.name), Role::Weight, &mut self.weight);
        if let Some(bias) = &mut self.bias {
            f(&format!("{}.bias", self.name), Role::Bias, bias);
        }
    }
}
