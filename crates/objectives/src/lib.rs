//! Self-supervised losses, and their labeled references: pure functions of embeddings.
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
//! | contrast | [`nt_xent()`], [`nt_xent_together`], [`sup_con()`], [`moco_v2`] with a [`Queue`], [`moco_v3`] |
//! | prediction | [`byol()`], [`simsiam`]; [`deacl`], [`negative_cosine`] |
//! | decorrelation | [`barlow_twins()`], [`vicreg()`], [`w_mse()`] with [`whiten`] |
//! | clusters | [`swav()`] with [`sinkhorn`], [`dino()`] with a [`Center`] |
//! | labels | [`cross_entropy`], [`trades`], [`kl_divergence`] |
//! | invariance across a batch | [`invariance`], [`adversarial_invariance`] (ACL-AIR) |
//!
//! A loss here knows no network and no data: rows in, a scalar out. What it stops, normalizes or detaches is
//! said where it is defined. What must last from step to step is a value that the caller holds, a [`Memory`]. Which one
//! a method uses is an [`Objective`], read from its file; what it [`Needs`] is known before anything runs.

#![forbid(unsafe_code)]

mod air;
mod barlow_twins;
mod byol;
mod compute;
mod dino;
mod embeddings;
mod label;
mod memory;
mod moco;
mod needs;
mod nt_xent;
mod objective;
mod queue;
mod rows;
mod sup_con;
mod swav;
#[cfg(test)]
mod testing;
mod vicreg;
mod w_mse;

pub use air::{adversarial_invariance, invariance};
pub use barlow_twins::{BarlowTwins, barlow_twins};
pub use byol::{byol, deacl, negative_cosine, simsiam};
pub use dino::{Center, Dino, dino};
pub use embeddings::Embeddings;
pub use label::{cross_entropy, kl_divergence, trades};
pub use memory::Memory;
pub use moco::{MocoV2, moco_v2, moco_v3};
pub use needs::Needs;
pub use nt_xent::nt_xent;
pub use objective::Objective;
pub use queue::Queue;
pub use sup_con::{Sides, SupCon, nt_xent_together, sup_con};
pub use swav::{SwAv, sinkhorn, swav};
pub use vicreg::{VicReg, vicreg};
pub use w_mse::{WMse, w_mse, whiten};
