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
//! To add one: a file beside the others, and a line in `objective.rs`.

#![forbid(unsafe_code)]

mod air;
mod barlow_twins;
mod byol;
mod cross_entropy;
mod deacl;
mod dino;
mod embeddings;
mod error;
mod loss;
mod moco_v2;
mod moco_v3;
mod needs;
mod nt_xent;
mod nt_xent_together;
mod objective;
mod queue;
mod rows;
mod simsiam;
mod state;
mod sup_con;
mod swav;
#[cfg(test)]
mod testing;
mod trades;
mod vicreg;
mod w_mse;

pub use air::{adversarial_invariance, invariance};
pub use barlow_twins::{BarlowTwins, barlow_twins};
pub use byol::{Byol, byol};
pub use cross_entropy::{CrossEntropy, cross_entropy};
pub use deacl::{deacl, negative_cosine};
pub use dino::{Center, Dino, dino};
pub use embeddings::Embeddings;
pub use error::{ObjectiveError, StateError};
pub use loss::SslLoss;
pub use moco_v2::{MocoV2, moco_v2};
pub use moco_v3::{MocoV3, moco_v3};
pub use needs::{Needs, Views};
pub use nt_xent::{NtXent, nt_xent};
pub use nt_xent_together::{NtXentTogether, nt_xent_together};
pub use objective::Objective;
pub use queue::Queue;
pub use simsiam::{SimSiam, simsiam};
pub use state::LossState;
pub use sup_con::{Sides, SupCon, sup_con};
pub use swav::{SwAv, sinkhorn, swav};
pub use trades::{Trades, kl_divergence, trades};
pub use vicreg::{VicReg, vicreg};
pub use w_mse::{WMse, w_mse, whiten};
