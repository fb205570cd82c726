//! Self-supervised losses and supervised references: pure functions of embeddings.
//!
//! The base objective is NT-Xent (Chen et al. 2020, SimCLR, equation 1). With `z` the `2n` unit rows
//! of both views, `S = z zᵀ / τ` and `p(i)` the other view of row `i`:
//!
//! ```text
//! L = 1/(2n) Σ_i [ ln Σ_{j ≠ i} exp(S_ij) − S_{i,p(i)} ]
//! ```
//!
//! ```
//! use tarrl_objectives::nt_xent;
//! use tarrl_tensor::{Tensor, cpu, grad};
//!
//! let z = Tensor::new(&cpu(), [2, 2], &[1.0f64, 0.0, 0.0, 1.0]).requires_grad(); // (n, d)
//! let loss = nt_xent(&z, &z.detach(), 0.5);
//! assert!((loss.item() - (2.0 * (-2.0f64).exp()).ln_1p()).abs() < 1e-12); // ln(1 + 2e⁻²)
//! assert_eq!(grad(&loss, &[&z]).remove(0).shape()[..], [2, 2]);
//! ```
//!
//! | family | losses |
//! |---|---|
//! | contrast | [`nt_xent()`], [`nt_xent_together()`], [`sup_con()`], [`moco_v2()`] with a [`Queue`], [`moco_v3()`] |
//! | prediction | [`byol()`], [`simsiam()`]; [`deacl`], [`negative_cosine`] |
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
