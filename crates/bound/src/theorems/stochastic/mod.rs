//! Stochastic representations: bounds for any head and any bounded loss, section C of docs/theory.md.
//!
//! The representation of `x` is drawn from a law `P_x`, and the loss after the head lies in `[0, M]`. With
//! `p = E_{P_x} loss / M`, the bounds here limit `E_{P_x'} loss / M`; nothing is assumed about
//! the head. Multiply by `M`; it may be the oscillation of the loss (sup − inf), but never the largest loss *observed*.
//!
//! - From the total variation distance: [`additive_bound`].
//! - Gaussian noise of one covariance, whether added to the representation or to the input, is described by
//!   one number, `rho = ‖Σ^{−1/2}(μ(x') − μ(x))‖₂`: [`shift_bound`] is exact, [`gaussian_tv`] and
//!   [`gaussian_kl`] are its divergences, [`input_rho`] is ρ for noise on the input.
//! - From the Kullback–Leibler divergence: [`pinsker`], [`bretagnolle_huber`], [`kl_upper`].
//! - The same from errors that are counted on draws, with a stated confidence: [`drawn_bound`], [`mean_drawn_bound`].
//! - Gaussian noise whose variances depend on the input: [`DiagonalPair`].
//!
//! ```
//! use tarrl_bound::stochastic::{additive_bound, gaussian_tv, shift_bound};
//! // One sample in ten is misclassified under the noise; the attacker moves the mean by half its deviation.
//! let (p, rho) = (0.1, 0.5);
//! let worst = shift_bound(p, rho);
//! assert!(worst > 0.217 && worst < 0.218 && worst < additive_bound(p, gaussian_tv(rho)));
//! ```
//!
//! From draws, fifty images with 25 errors in 1,000 draws each:
//!
//! ```
//! use tarrl_bound::stochastic::{DrawnErrors, mean_drawn_bound};
//! let image = DrawnErrors { pilot_errors: 2, pilot_draws: 100, errors: 25, draws: 1000, rho: 0.5 };
//! // Φ(Φ⁻¹(0.025) + ½) = 0.072, and what 50,000 draws leave open at 99.9 %.
//! let limit = mean_drawn_bound(&[image; 50], 1e-3);
//! assert!(limit > 0.090 && limit < 0.093);
//! ```

mod diagonal_gaussian;
mod from_draws;
mod gaussian_shift;
mod kl;
mod normal;
mod total_variation;

pub use diagonal_gaussian::DiagonalPair;
pub use from_draws::{DrawnErrors, drawn_bound, mean_drawn_bound};
pub use gaussian_shift::{
    averaged_loss_bound, gaussian_kl, gaussian_tv, input_rho, joint_tv, shift_bound, shift_floor,
    variance_bound,
};
pub use kl::{bernoulli_kl, bretagnolle_huber, kl_upper, kl_upper_reverse, pinsker};
pub use normal::{normal_cdf, normal_quantile};
pub use total_variation::additive_bound;
