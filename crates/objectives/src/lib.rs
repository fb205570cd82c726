//! Self-supervised losses: pure functions of embeddings.
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
//! let z = Tensor::new(&cpu(), [2, 2], &[1.0f64, 0.0, 0.0, 1.0]).tracked(); // (n, d)
//! let loss = nt_xent(&z, &z.detach(), 0.5);
//! assert!((loss.item() - (2.0 * (-2.0f64).exp()).ln_1p()).abs() < 1e-12); // ln(1 + 2e⁻²)
//! assert_eq!(grad(&loss, &[&z]).remove(0).shape()[..], [2, 2]);
//! ```
//!
//! A loss here knows no network and no data: rows in, a scalar out. Which one a method uses is an
//! [`Objective`], read from its file.

#![forbid(unsafe_code)]

mod nt_xent;
mod objective;

pub use nt_xent::nt_xent;
pub use objective::Objective;
