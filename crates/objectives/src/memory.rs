//! What an objective remembers from step to step, as tensors for checkpoints.

use tarrl_tensor::Tensor;

/// A value that a training carries beside its networks: a [`Queue`](crate::Queue), a [`Center`](crate::Center).
pub trait Memory {
    /// Its tensors by name.
    fn state(&self) -> Vec<(&'static str, Tensor)>;

    /// Takes up the work with what [`state`](Memory::state) returned, looked up by name.
    ///
    /// # Errors
    /// Names the first tensor that is missing or does not fit. Nothing is changed then.
    fn restore(&mut self, state: &dyn Fn(&str) -> Option<Tensor>) -> Result<(), String>;
}

/// The tensors of `memory` in `state`, in their order, with the shapes and types that it has now.
pub(crate) fn find(
    memory: &dyn Memory,
    state: &dyn Fn(&str) -> Option<Tensor>,
) -> Result<Vec<Tensor>, String> {
    let one = |(name, old): (&str, Tensor)| {
        let new = state(name).ok_or_else(|| format!("{name} is missing"))?;
        if new.shape() != old.shape() || new.dtype() != old.dtype() {
            let (found, wanted) = (new.shape(), old.shape());
            return Err(format!(
                "{name} has shape {found:?}, not {wanted:?}, or type {:?}, not {:?}",
                new.dtype(),
                old.dtype()
            ));
        }
        Ok(new.detach())
    };
    memory.state().into_iter().map(one).collect()
}
