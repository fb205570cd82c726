//! Optimizer state of one parameter.

use tarrl_tensor::Tensor;

/// The state of one parameter.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) decays: bool,
    pub(super) memory: Vec<Tensor>,
}
