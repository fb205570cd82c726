//! The state of a loss: what it keeps from step to step, as tensors for checkpoints.

use crate::error::StateError;
use std::any::Any;
use std::fmt::Debug;
use tarrl_tensor::Tensor;

/// A value that a training carries beside its networks: a [`Queue`](crate::Queue), a [`Center`](crate::Center).
pub trait LossState: Any + Debug {
    /// Its name, the first part of the names of its tensors in a checkpoint.
    fn name(&self) -> &'static str;

    /// Its tensors by name.
    fn tensors(&self) -> Vec<(&'static str, Tensor)>;

    /// Replaces it by what [`tensors`](LossState::tensors) returned, looked up by name.
    ///
    /// # Errors
    /// The first tensor that is missing or does not fit. Nothing is changed then.
    fn restore(&mut self, stored: &dyn Fn(&str) -> Option<Tensor>) -> Result<(), StateError>;
}

/// The state as the type that its loss created.
///
/// # Panics
/// If it is the state of another loss.
#[track_caller]
pub(crate) fn own<T: LossState>(state: &mut dyn LossState) -> &mut T {
    let name = state.name();
    let state: &mut dyn Any = state;
    state.downcast_mut().unwrap_or_else(|| panic!("the state `{name}` belongs to another loss"))
}

/// The tensors of `state` among those stored, in their order, checked against its present shapes and types.
pub(crate) fn find(
    state: &dyn LossState,
    stored: &dyn Fn(&str) -> Option<Tensor>,
) -> Result<Vec<Tensor>, StateError> {
    let one = |(name, old): (&'static str, Tensor)| {
        let new = stored(name).ok_or(StateError::Missing { name })?;
        if new.shape() != old.shape() || new.dtype() != old.dtype() {
            return Err(StateError::Mismatch {
                name,
                found: Box::new(*new.shape()),
                expected: Box::new(*old.shape()),
                found_type: new.dtype(),
                expected_type: old.dtype(),
            });
        }
        Ok(new.detach())
    };
    state.tensors().into_iter().map(one).collect()
}
