//! Gaussian shift: laws with one covariance and means a Mahalanobis distance `rho` apart.

use super::normal::{normal_cdf, normal_quantile};
use libm::erf;
use std::f64::consts::SQRT_2;
use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::math;

/// `erf(ρ / (2√2)) = 2Φ(ρ/2) − 1`: the total variation distance. Theorem C3 (docs/theory.md).
pub fn gaussian_tv(rho: f64) -> f64 {
    erf(rho / (2.0 * SQRT_2))
}

/// `ρ²/2`: the Kullback–Leibler divergence. Theorem C3 (docs/theory.md).
pub fn gaussian_kl(rho: f64) -> f64 {
    0.5 * rho * rho
}

/// `Φ(Φ⁻¹(p) + ρ)`: the largest mean of a loss in `[0, 1]` whose mean at the clean law is `p`, over all heads
/// and losses and all laws at most `rho` away. Attained. Theorem C4 (docs/theory.md).
///
/// For fixed `rho` it is concave in `p`, so that the bound of the mean covers the mean of the bounds; it is not
/// concave in both: where `rho` differs from sample to sample, average the bounds.
///
/// # Panics
/// If `p` is no probability.
#[track_caller]
pub fn shift_bound(p: f64, rho: f64) -> f64 {
    normal_cdf(normal_quantile(p) + rho)
}

/// `Φ(Φ⁻¹(p) − ρ)`: the least such mean. Theorem C4 (docs/theory.md).
///
/// # Panics
/// If `p` is no probability.
#[track_caller]
pub fn shift_floor(p: f64, rho: f64) -> f64 {
    normal_cdf(normal_quantile(p) - rho)
}

/// `−ln Φ(Φ⁻¹(p̄) − ρ)`: the largest cross-entropy of the averaged predictor, which gives the label the mean
/// probability `p̄` over the noise, for any head. No bounded loss is needed. Theorem C4 (docs/theory.md).
///
/// # Panics
/// If `mean_probability` is no probability.
#[track_caller]
pub fn averaged_loss_bound(mean_probability: f64, rho: f64) -> f64 {
    let x = normal_quantile(mean_probability) - rho;
    // Where the probability is near 1, from its complement.
    if x > 0.0 { -math::ln_1p(-normal_cdf(-x)) } else { -math::ln(normal_cdf(x)) }
}

/// The total variation distance that a predictor faces which sees `draws` draws jointly, for one by averaging
/// representations before a nonlinear head: ρ becomes `√draws ρ`. At most `draws` times that of one draw.
/// Theorem C8 (docs/theory.md).
///
/// A predictor whose *loss* is averaged over draws keeps the bound of one draw.
pub fn joint_tv(rho: f64, draws: usize) -> f64 {
    gaussian_tv((draws as f64).sqrt() * rho)
}

/// ρ for noise of deviation `sigma` on each of the `n` coordinates of the input, whatever the encoder is:
/// `ε/σ` in l2 and in l1 (which is inside the l2 ball), `ε√n/σ` in l-infinity, `√ε` times the width of the box over σ
/// in l0, infinite there without a box. Theorem C10 (docs/theory.md).
///
/// # Panics
/// If `sigma` is not positive.
#[track_caller]
pub fn input_rho(threat: &Threat, n: usize, sigma: f64) -> f64 {
    assert!(sigma > 0.0, "noise of deviation {sigma}");
    match threat.norm {
        Norm::L2 | Norm::L1 => threat.epsilon / sigma,
        Norm::Linf => threat.epsilon * (n as f64).sqrt() / sigma,
        Norm::L0 => {
            let width = threat.bounds.map_or(f64::INFINITY, |(lo, hi)| hi - lo);
            threat.epsilon.min(n as f64).sqrt() * width / sigma
        }
    }
}

/// `sd √(e^{ρ²} − 1)`: how far the mean of any function, bounded or not, moves from a law where its standard
/// deviation is `deviation`. Theorem C11 (docs/theory.md). Grows fast beyond `rho` of 1.
pub fn variance_bound(deviation: f64, rho: f64) -> f64 {
    deviation * math::exp_m1(rho * rho).sqrt()
}
