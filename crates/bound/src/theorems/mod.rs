//! Theorems as functions: one module for each part of docs/theory.md.
//!
//! | module | sections | what it bounds |
//! |---|---|---|
//! | [`gap`] | A1, A2, B2 | the cross-entropy when the logit gaps move |
//! | `bound_chain` | A2, H | clean loss, attacked loss and the bounds above it, for samples and their means |
//! | `whitening` | A6 | gaps by displacements in standard deviations of the data |
//! | [`stochastic`] | C | any head and any bounded loss on a random representation |
//! | [`confidence`] | D | population means by sample means |
//!
//! The constants of heads (A3, A4, B) are in the module `heads`, facts about training (G) with the
//! [`Regularizer`](crate::Regularizer).

pub(crate) mod bound_chain;
pub mod confidence;
pub mod gap;
pub mod stochastic;
pub(crate) mod whitening;
