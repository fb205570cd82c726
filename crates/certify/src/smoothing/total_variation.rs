//! Total variation smoothing: certificates of bounded encoders that need no sample covariance, Theorem S4 of
//! docs/certificates.md.

use super::normal::quantile_rounded_down;
use tarrl_bound::stochastic::gaussian_tv;

/// `2B erf(ρ / 2√2)`: how far the mean of anything of norm at most `B` moves, from the total variation alone.
pub fn total_variation_radius(top: f64, rho: f64) -> f64 {
    2.0 * top * gaussian_tv(rho)
}

/// A lower bound of the cosine of `F(x′)` and `F(x)`, for `share = ‖F(x)‖ / B` of an encoder of norm at most `B`:
/// `2Φ(Φ⁻¹((1 + share)/2) − ρ) − 1`, or −1 where that is negative and nothing follows. Theorem S4
/// (docs/certificates.md).
///
/// # Panics
/// If `share` is not in `[0, 1]`.
#[track_caller]
pub fn total_variation_cosine(share: f64, rho: f64) -> f64 {
    assert!((0.0..=1.0).contains(&share), "total_variation_cosine: a share of {share}");
    let quantile = quantile_rounded_down(0.5 * (1.0 + share)) - rho;
    let along = libm::erf(quantile / std::f64::consts::SQRT_2);
    if along >= 0.0 { along } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::Key;

    /// 2(2Φ(¼) − 1).
    #[test]
    fn the_radius_matches_its_reference_value() {
        assert!((total_variation_radius(1.0, 0.5) - 0.39482530273169486).abs() < 1e-15);
    }

    /// A thousand encoders into the plane with values on the unit circle, steps at random places: direction and length of
    /// their means under noise, by the normal distribution function, against both forms. Two values attain the second.
    #[test]
    fn directions_stay_within_the_total_variation() {
        let phi = |t: f64| 0.5 * libm::erfc(-t / std::f64::consts::SQRT_2);
        let mut informative = 0;
        for trial in 0..1000usize {
            let mut stream = Key::new(17).fold(trial).stream();
            let steps: Vec<f64> = (0..3).map(|i| stream.uniform(-1.5, 1.5) + i as f64 - 1.0).collect();
            let mut edges = steps;
            edges.sort_by(f64::total_cmp);
            let angles: Vec<f64> = (0..4).map(|_| stream.uniform(0.0, 2.5)).collect();
            let mean = |x: f64| {
                let at: Vec<f64> = edges.iter().map(|e| phi(e - x)).collect();
                let mass = [at[0], at[1] - at[0], at[2] - at[1], 1.0 - at[2]];
                let sum = |of: fn(f64) -> f64| mass.iter().zip(&angles).map(|(m, a)| m * of(*a)).sum::<f64>();
                [sum(f64::cos), sum(f64::sin)]
            };
            let rho = stream.uniform(0.0, 0.8);
            let (a, b) = (mean(0.0), mean(rho));
            let [la, lb] = [a, b].map(|v| v[0].hypot(v[1]));
            assert!((a[0] - b[0]).hypot(a[1] - b[1]) <= total_variation_radius(1.0, rho) + 1e-12);
            let cosine = (a[0] * b[0] + a[1] * b[1]) / (la * lb);
            let bound = total_variation_cosine(la.min(1.0), rho);
            assert!(cosine >= bound - 1e-9, "{cosine} {bound}");
            informative += usize::from(bound > 0.0);
        }
        assert!(informative > 300, "too few bounds are positive: {informative}");
        // f = ±1 by the sign of the noise beyond t: along F(x) the mean falls to exactly this.
        let (t, rho) = (-1.0, 0.5);
        let along = |x: f64| 1.0 - 2.0 * phi(t - x);
        assert!((along(-rho) - total_variation_cosine(along(0.0), rho)).abs() < 1e-9);
        assert!(along(-rho) < total_variation_cosine(along(0.0), 0.95 * rho));
    }
}
