//! The trait that every loss implements.

use crate::embeddings::Embeddings;
use crate::error::ObjectiveError;
use crate::needs::Needs;
use crate::state::LossState;
use std::fmt::Debug;
use tarrl_tensor::{Device, Key, Tensor};

/// A self-supervised loss, or a labeled reference, with its settings.
///
/// The value is a pure function of the embeddings of one batch and of the loss's state. A trainer builds the networks
/// that [`needs`](SslLoss::needs) asks for, calls [`loss`](SslLoss::loss) in every step, and
/// [`update`](SslLoss::update) after it where there is a state; it knows no loss by name.
pub trait SslLoss: Debug {
    /// Its name in messages.
    fn name(&self) -> &'static str;

    /// What it needs besides the online embeddings of two or more views.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Checks its settings.
    ///
    /// # Errors
    /// The first setting that is out of range.
    fn check(&self) -> Result<(), ObjectiveError>;

    /// What to change if the loss or its gradient is not finite, besides the learning rate: a clause of a message, for
    /// losses that some embeddings give no value.
    fn remedy(&self) -> Option<&'static str> {
        None
    }

    /// The scalar loss of a batch, differentiable in the online embeddings.
    ///
    /// # Panics
    /// If something that [`needs`](SslLoss::needs) names is missing, and if shapes do not fit.
    #[track_caller]
    fn loss(&self, batch: &Embeddings<'_>) -> Tensor;

    /// The state before the first step, for embeddings of dimension `dim`; `None` for a loss without memory.
    fn initial_state(&self, device: &Device, key: Key, dim: usize) -> Option<Box<dyn LossState>> {
        let _ = (device, key, dim);
        None
    }

    /// Updates the state after a step, with the targets `(n, d)` of each view.
    ///
    /// # Panics
    /// If the state is that of another loss, or the shapes do not fit.
    fn update(&self, state: &mut dyn LossState, targets: &[Tensor]) {
        let _ = (state, targets);
    }
}
