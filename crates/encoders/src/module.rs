//! Modules: networks as named tensors with roles, and functions on all of them.

use crate::forward_context::ForwardContext;
use tarrl_tensor::{DType, Tensor};

/// What a tensor of a network is for. Optimizers decide by it what decays and what adapts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The weights of a convolution or a linear map.
    Weight,
    /// The bias of a linear map.
    Bias,
    /// The scale of a normalization.
    NormScale,
    /// The shift of a normalization.
    NormShift,
    /// Added to tokens: a class token, positions.
    Embedding,
    /// Not trained: running statistics, and the number of batches in them as a U32 scalar.
    Buffer,
}

impl Role {
    /// Whether an optimizer changes it.
    pub fn is_parameter(self) -> bool {
        self != Role::Buffer
    }
}

/// A network as a list of named tensors, in a fixed order.
///
/// Names are PyTorch's, with dots: `layer1.0.bn2.running_mean`. Convolution weights are
/// `(kh, kw, c_in, c_out)`, linear weights `(out, in)`.
pub trait Module {
    /// Calls `f` with every tensor.
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor));

    /// Calls `f` with every tensor, to replace it.
    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor));

    /// Moves the running statistics towards those that a training `pass` through this network has
    /// collected: `r ← (1 − momentum)·r + momentum·batch`, with the unbiased variance of the batch.
    ///
    /// A pass that went through a layer several times counts as so many batches, in their order.
    /// Statistics of layers that this network has not are left to the network that has them.
    fn update_running_stats(&mut self, pass: &ForwardContext, momentum: f64) {
        self.visit_mut(&mut |name, role, tensor| {
            if role == Role::Buffer {
                *tensor = pass.updated_buffer(name, tensor, momentum);
            }
        });
    }
}

/// The parameters (all but buffers) in the order of [`Module::visit`].
pub fn parameters(module: &dyn Module) -> Vec<Tensor> {
    chosen(module, Role::is_parameter)
}

/// Replaces the parameters, in the order of [`parameters`].
///
/// # Panics
/// If there are not as many, or one has another shape or type.
#[track_caller]
pub fn set_parameters(module: &mut dyn Module, values: &[Tensor]) {
    replace(module, "set_parameters", Role::is_parameter, values);
}

/// The buffers, such as running statistics, in the order of [`Module::visit`].
pub fn buffers(module: &dyn Module) -> Vec<Tensor> {
    chosen(module, |role| role == Role::Buffer)
}

/// Replaces the buffers, in the order of [`buffers`].
///
/// # Panics
/// If there are not as many, or one has another shape or type.
#[track_caller]
pub fn set_buffers(module: &mut dyn Module, values: &[Tensor]) {
    replace(module, "set_buffers", |role| role == Role::Buffer, values);
}

fn chosen(module: &dyn Module, of: fn(Role) -> bool) -> Vec<Tensor> {
    let mut found = Vec::new();
    module.visit(&mut |_, role, tensor| {
        if of(role) {
            found.push(tensor.clone());
        }
    });
    found
}

#[track_caller]
fn replace(module: &mut dyn Module, op: &str, of: fn(Role) -> bool, values: &[Tensor]) {
    let expected = chosen(module, of).len();
    assert_eq!(values.len(), expected, "{op}: {} tensors for {expected}", values.len());
    let mut values = values.iter();
    module.visit_mut(&mut |name, role, tensor| {
        if let Some(value) = of(role).then(|| values.next()).flatten() {
            assert!(
                value.shape() == tensor.shape() && value.dtype() == tensor.dtype(),
                "{op}: {name} is {:?}{:?}, got {:?}{:?}",
                tensor.dtype(),
                tensor.shape(),
                value.dtype(),
                value.shape()
            );
            *tensor = value.clone();
        }
    });
}

/// Makes every parameter a leaf that requires a gradient.
pub fn track(module: &mut dyn Module) {
    module.visit_mut(&mut |_, role, tensor| {
        if role.is_parameter() {
            *tensor = tensor.detach().requires_grad();
        }
    });
}

/// Makes every tensor a constant.
pub fn detach(module: &mut dyn Module) {
    module.visit_mut(&mut |_, _, tensor| *tensor = tensor.detach());
}

/// Changes the element type of every float tensor: F64 for gradient checks and certificates.
pub fn cast(module: &mut dyn Module, dtype: DType) {
    module.visit_mut(&mut |_, _, tensor| {
        if tensor.dtype() != DType::U32 {
            *tensor = tensor.cast(dtype);
        }
    });
}

/// The number of trained values.
pub fn parameter_count(module: &dyn Module) -> usize {
    parameters(module).iter().map(|tensor| tensor.array().len()).sum()
}
