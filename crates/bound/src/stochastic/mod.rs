//! Random representations: bounds for any head and any bounded loss.
//!
//! The representation of `x` is drawn from a law `P_x`, and the loss after the head lies in `[0, M]`. With
//! `p = E_{P_x} loss / M`, the bounds here say how large `E_{P_x'} loss / M` can be; nothing is assumed of
//! the head. Multiply by `M`; it may be the oscillation of the loss, but never the largest loss *seen*.
//!
//! - From the total variation distance: [`additive_bound`].
//! - Gaussian noise of one covariance, whether added to the representation or to the input, is described by
//!   one number, `rho = ‖Σ^{−1/2}(μ(x') − μ(x))‖₂`: [`shift_bound`] is exact, [`gaussian_tv`] and
//!   [`gaussian_kl`] are its divergences, [`input_rho`] is ρ for noise on the input.
//! - From the divergence of Kullback and Leibler: [`pinsker`], [`bretagnolle_huber`], [`kl_upper`].
//! - Gaussian noise whose variances depend on the input: [`DiagonalPair`].
//!
//! ```
//! use tarrl_bound::stochastic::{additive_bound, gaussian_tv, shift_bound};
//! // One sample in ten is misclassified under the noise; the attacker moves the mean by half its deviation.
//! let (p, rho) = (0.1, 0.5);
//! let worst = shift_bound(p, rho);
//! assert!(worst > 0.217 && worst < 0.218 && worst < additive_bound(p, gaussian_tv(rho)));
//! ```

mod diagonal;
mod kl;
mod normal;
mod shift;

pub use diagonal::DiagonalPair;
pub use kl::{bernoulli_kl, bretagnolle_huber, kl_upper, kl_upper_reverse, pinsker};
pub use normal::{normal_cdf, normal_quantile};
pub use shift::{
    averaged_loss_bound, gaussian_kl, gaussian_tv, input_rho, joint_tv, shift_bound, shift_floor,
    variance_bound,
};

/// `min(1, p + TV)`: the mean of any loss in `[0, 1]` under a law at the total variation distance `tv` from one
/// where it is `p`. Theorem C1 (docs/theory.md).
///
/// # Panics
/// If `p` is no probability.
#[track_caller]
pub fn additive_bound(p: f64, tv: f64) -> f64 {
    check_probability(p);
    // Comparison rather than `min`, which would drop a NaN.
    if p + tv > 1.0 { 1.0 } else { p + tv }
}

#[track_caller]
fn check_probability(p: f64) {
    assert!((0.0..=1.0).contains(&p), "a probability, or a loss as a share of its range, of {p}");
}
