#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! | family | losses |
//! |---|---|
//! | contrast | [`nt_xent()`], [`nt_xent_together()`], [`sup_con()`], [`moco_v2()`] with a [`Queue`], [`moco_v3()`] |
//! | prediction | [`byol()`], [`simsiam()`]; [`deacl`], [`negative_cosine`]; [`fare`], [`squared_distance`] |
//! | decorrelation | [`barlow_twins()`], [`vicreg()`], [`w_mse()`] with [`whiten`] |
//! | clusters | [`swav()`] with [`sinkhorn`], [`dino()`] with a [`Center`] |
//! | labels | [`cross_entropy()`], [`trades()`], [`kl_divergence`] |
//! | invariance across a batch | [`invariance`], [`adversarial_invariance`] (ACL-AIR) |
//!
//! Every loss is one file: the function, its settings, and an [`SslLoss`] that says what it [`Needs`], checks the settings,
//! computes the value from [`Embeddings`], and creates and updates its [`LossState`] where it keeps something from step to
//! step. An [`Objective`] is the choice of one by a method file. No loss knows a network or a dataset.
//!
//! To add one: a file in `losses`, and its lines in `losses/mod.rs`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod embeddings;
mod error;
mod loss;
mod losses;
mod needs;
mod queue;
mod rows;
mod state;
#[cfg(test)]
mod testing;

pub use embeddings::Embeddings;
pub use error::{ObjectiveError, StateError};
pub use loss::SslLoss;
pub use losses::*;
pub use needs::{Needs, Views};
pub use queue::Queue;
pub use state::LossState;
