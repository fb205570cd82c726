//! Dense linear algebra, lp norms and numerically stable sums, in f64 on the host.

pub(crate) mod incomplete_beta;
pub mod linalg;
mod lp_norm;
pub(crate) mod stable;

pub use lp_norm::LpNorm;
