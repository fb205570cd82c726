//! NT-Xent (normalized temperature-scaled cross-entropy, Chen et al. 2020) in one kernel, forward and adjoint.

use crate::array::{Array, Buffer};

/// A backend that computes the NT-Xent cross-entropies of paired rows by itself.
pub trait NtXentBackend {
    /// For `z` `(m, k)` and `partners` `(m)` in U32: the cross-entropy of each row of `z·zᵀ`, its own entry left out, against
    /// its partner. `None` if an exponential might leave the range of numbers; the caller then computes op by op.
    fn forward(&self, z: &Array, partners: &Array) -> Option<NtXentForward>;
    /// The adjoint in `z`, `(m, k)`, for the gradient `dy` `(m)`, from the exponentials and sums that the forward pass saved.
    fn adjoint(&self, z: &Array, partners: &Array, saved: [&Array; 2], dy: &Array) -> Buffer;
}

/// The result of [`NtXentBackend::forward`].
pub struct NtXentForward {
    /// `(m)`: the cross-entropies.
    pub losses: Buffer,
    /// `(m, m)`: the exponentials of similarities, zero where a row meets itself or its partner.
    pub exponentials: Buffer,
    /// `(2, m)`: the exponentials of the partners, and the sums of all others.
    pub sums: Buffer,
}
