//! Optional extensions of a [`Backend`](crate::Backend): fused kernels for what is not an op of tensors.
//!
//! A backend computes with the core kernels alone. Where it also has one of these, it answers the accessor of the same
//! subject; the library that needs it falls back to a composite of the same meaning where the answer is `None`:
//!
//! | extension | accessor | without it |
//! |---|---|---|
//! | [`AugmentBackend`] | [`Backend::augment`](crate::Backend::augment) | `tarrl-data` augments on the host |
//! | [`OptimizerBackend`] | [`Backend::optimizer`](crate::Backend::optimizer) | `tarrl-train` updates op by op, to the same bits |
//! | [`NtXentBackend`] | [`Backend::nt_xent`](crate::Backend::nt_xent) | [`Tensor::nt_xent`](crate::Tensor::nt_xent) is a product and a cross-entropy |

mod augment;
mod nt_xent;
mod optimizer;

pub use augment::{AugmentBackend, AugmentBatch, ColorTransform, DeviceTransform};
pub use nt_xent::{NtXentBackend, NtXentForward};
pub use optimizer::{LarsRatio, OptimizerBackend, ParamUpdate, UpdateRule, UpdatedParam};
