//! Property checks of the theorems for any encoder, given as a closure from inputs to representations.
//!
//! Each returns a [`Violation`] that names the inequality that failed, for use in property tests (with the strategies of
//! the feature `proptest`), unit tests or programs. A failed check means an error in the program: an encoder whose rows
//! depend on each other, or a certificate that is not sound.
//!
//! ```
//! use tarrl_bound::{LinearHead, check};
//! use tarrl_tensor::{Tensor, cpu};
//!
//! let w = Tensor::new(&cpu(), [2, 2], &[1.0, -1.0, 0.5, 2.0]);
//! let encoder = |x: &Tensor| x.matmul(&w).tanh();
//! let x = Tensor::new(&cpu(), [1, 2], &[0.2, 0.7]);
//! let moved = Tensor::new(&cpu(), [1, 2], &[0.3, 0.6]);
//! let head = LinearHead::new(2, 2, vec![1.0, 0.0, 0.0, 1.0], vec![0.0; 2]);
//! check::bound_holds(&encoder, &head, &x, &moved, &[1])?;
//! # Ok::<(), check::Violation>(())
//! ```

mod encoders;
mod invariance;
#[cfg(feature = "proptest")]
pub mod strategies;
mod violation;

pub use encoders::{
    attack_is_below_certificate, bound_holds, displacements, is_monotone_in_epsilon, is_zero_at_zero_epsilon,
    rows_are_independent,
};
pub use invariance::{head_ignores_common_row, length_ignores_linear_map};
pub use violation::{Violation, at_most, equals};
