//! Covariance smoothing: certificates of the smoothed encoder from the second moment of the samples, Theorems S1 and S2 of
//! docs/certificates.md.

use super::samples::SmoothingSamples;
use crate::rounding::{above, slack};
use tarrl_bound::linalg::symmetric_norm;
use tarrl_tensor::math;

/// `√(v·S·v + t ‖v‖²)` bounds the deviation of `v·f(x + σξ)` in all directions at once: Theorem S2
/// (docs/certificates.md).
#[derive(Clone, Debug, PartialEq)]
pub struct CovarianceCertificate {
    /// `S (d, d)`: the second moment of the draws about the center.
    moment: Vec<f64>,
    /// `t`
    margin: f64,
    /// An upper confidence limit of the largest eigenvalue of the true second moment.
    top: f64,
    sigma: f64,
    d: usize,
}

impl SmoothingSamples {
    /// What the second moment of the draws certifies, for every direction at once.
    pub fn covariance(&self) -> CovarianceCertificate {
        let (d, n) = (self.center.len(), self.config.draws);
        let mut moment = vec![0.0; d * d];
        for row in self.rows.chunks(d) {
            let moved: Vec<f64> = row.iter().zip(&self.center).map(|(v, c)| v - c).collect();
            for (i, a) in moved.iter().enumerate() {
                moment[i * d..][..d].iter_mut().zip(&moved).for_each(|(m, b)| *m += a * b / n as f64);
            }
        }
        let trace: f64 = (0..d).map(|i| moment[i * d + i]).sum();
        let seen = (1.0 + 1e-9) * symmetric_norm(moment.clone(), d) + slack(n) * trace;
        let square = self.config.top * self.config.top;
        let log = |delta: f64| math::ln(1.0 / delta) / n as f64;
        // Half of δ for the eigenvalue, half for the uniform statement that uses it.
        let top = square * inverse_kl((seen / square).min(1.0), log(0.5 * self.config.delta));
        let rate = log(0.5 * self.config.delta / d as f64);
        let margin = (2.0 * square * top * rate).sqrt() + 2.0 / 3.0 * square * rate + slack(n) * trace;
        CovarianceCertificate { moment, margin, top, sigma: self.config.sigma, d }
    }
}

impl CovarianceCertificate {
    /// An upper bound of `‖F(x′) − F(x)‖₂` over the Euclidean ball of radius `epsilon`: Theorem S1
    /// (docs/certificates.md).
    pub fn radius(&self, epsilon: f64) -> f64 {
        above(self.top.sqrt() * growth(epsilon / self.sigma), 8)
    }

    /// An upper bound of `v · (F(x′) − F(x))` over the same ball, for all `v` `(d)` at once.
    ///
    /// # Panics
    /// If `v` has not `d` elements.
    #[track_caller]
    pub fn support(&self, v: &[f64], epsilon: f64) -> f64 {
        assert_eq!(v.len(), self.d, "covariance: a direction of {} on {} features", v.len(), self.d);
        let along = |row: &[f64]| row.iter().zip(v).map(|(m, v)| m * v).sum::<f64>();
        let quadratic: f64 = v.iter().zip(self.moment.chunks(self.d)).map(|(v, row)| v * along(row)).sum();
        let length: f64 = v.iter().map(|v| v * v).sum();
        let by_direction = (quadratic.max(0.0) + self.margin * length).sqrt();
        let by_radius = (self.top * length).sqrt();
        let least = if by_radius < by_direction { by_radius } else { by_direction };
        above(least * growth(epsilon / self.sigma), self.d + 8)
    }
}

/// `√(e^{ρ²} − 1)`: how many standard deviations a mean can move when the noise is shifted by `ρ` of its own.
pub fn growth(rho: f64) -> f64 {
    math::exp_m1(rho * rho).sqrt()
}

/// `sup { q ≥ p : kl(p, q) ≤ rate }` of Bernoulli laws, by bisection, rounded up.
fn inverse_kl(p: f64, rate: f64) -> f64 {
    let term = |a: f64, b: f64| if a > 0.0 { a * math::ln(a / b) } else { 0.0 };
    let kl = |q: f64| term(p, q) + term(1.0 - p, 1.0 - q);
    let (mut low, mut high) = (p, 1.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if kl(middle) <= rate { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smoothing::{SmoothingConfig, draw_smoothing_samples};
    use crate::tests::device;
    use tarrl_tensor::{Key, Tensor};

    /// Published values of √(e^{ρ²} − 1)·sd.
    #[test]
    fn growth_and_inverse_kl_match_reference_values() {
        assert!((0.2 * growth(0.5) - 0.10658807000555766).abs() < 1e-15);
        for (rho, square) in [
            (0.1, 0.010050167084168),
            (0.25, 0.064494458917859),
            (0.5, 0.284025416687742),
            (1.0, 1.718281828459045),
        ] {
            // The published values have fifteen digits after the point.
            assert!((growth(rho).powi(2) - square).abs() < 1e-14, "{rho}");
        }
        // kl(0, q) = −ln(1 − q), so that the limit is 1 − e^{−rate}; eighty bisections leave rounding alone.
        assert!((inverse_kl(0.0, 0.3) - (1.0 - (-0.3f64).exp())).abs() < 1e-12);
    }

    /// Two features of one pixel; both are bounded, and their means are known from a grid of the noise.
    fn curve(x: f64) -> [f64; 2] {
        [(3.0 * x).tanh() * 0.6, (2.0 * x).sin() * 0.6]
    }

    fn smoothed(x: f64, sigma: f64) -> [f64; 2] {
        let (n, mut sum, mut weight) = (4000, [0.0; 2], 0.0);
        for i in 0..n {
            let t = -8.0 + 16.0 * (i as f64 + 0.5) / n as f64;
            let density = (-0.5 * t * t).exp();
            let f = curve(x + sigma * t);
            sum = [sum[0] + density * f[0], sum[1] + density * f[1]];
            weight += density;
        }
        sum.map(|s| s / weight)
    }

    #[test]
    fn the_smoothed_encoder_stays_within_its_certificate() {
        let device = device();
        let encode = |x: &Tensor| {
            let rows: Vec<f64> = x.array().to_f64().into_iter().flat_map(curve).collect();
            Tensor::new(x.device(), [rows.len() / 2, 2], &rows)
        };
        let mut inside = 0;
        for trial in 0..170usize {
            let key = Key::new(7).fold(trial);
            let at = key.stream().uniform(-1.0, 1.0);
            let x = Tensor::new(&device, [1, 1], &[at]);
            let config = SmoothingConfig { sigma: 0.4, draws: 2000, delta: 1e-3, top: 2.0, batch: 333 };
            let samples = draw_smoothing_samples(&encode, &x, &config, key).unwrap();
            let found = samples.covariance();
            let before = smoothed(at, 0.4);
            for epsilon in [0.05, 0.2, 0.4] {
                for sign in [-1.0, 1.0] {
                    let after = smoothed(at + sign * epsilon, 0.4);
                    let moved = [after[0] - before[0], after[1] - before[1]];
                    assert!(moved[0].hypot(moved[1]) <= found.radius(epsilon));
                    for v in [[1.0, 0.0], [0.0, -1.0], moved] {
                        let along = v[0] * moved[0] + v[1] * moved[1];
                        assert!(along <= found.support(&v, epsilon));
                        inside += usize::from(along > 0.3 * found.support(&v, epsilon));
                    }
                }
            }
            let mean = samples.mean();
            assert!((mean[0] - before[0]).hypot(mean[1] - before[1]) <= samples.mean_error());
        }
        assert!(inside > 170, "the bounds are far from attained: {inside}");
    }

    /// The mean of an affine map moves by ε for each unit of its slope, and its deviation is σ: at ρ = 0.1 the certificate is
    /// above the truth by √(e^{0.01} − 1)/0.1 = 1.0025, so that a twentieth less of it is wrong.
    #[test]
    fn the_covariance_certificate_cannot_be_smaller_by_a_twentieth() {
        let mut stream = Key::new(19).stream();
        let (draws, sigma) = (200_000, 0.5);
        let rows: Vec<f64> = (0..draws).map(|_| 3.0 * sigma * stream.normal()).collect();
        let config = SmoothingConfig { sigma, draws, delta: 1e-3, top: 12.0, batch: 1 };
        let found = SmoothingSamples { rows, center: vec![0.0], config }.covariance();
        let (epsilon, moved) = (0.1 * sigma, 3.0 * 0.1 * sigma);
        // What is known of the variance after so many draws costs two per cent.
        let support = found.support(&[1.0], epsilon);
        assert!(moved <= support && moved > 0.95 * support, "{moved} {support}");
        let radius = found.radius(epsilon);
        assert!(moved <= radius && moved > 0.95 * radius, "{moved} {radius}");
    }

    /// Over many sets of samples the confidence limit of the eigenvalue fails no more often than stated.
    #[test]
    fn the_limit_of_the_eigenvalue_covers_the_truth() {
        let (trials, draws, delta) = (1000, 100, 0.1);
        let mut missed = 0;
        for trial in 0..trials as usize {
            let mut stream = Key::new(13).fold(trial).stream();
            // A coin of value ±1 on the first axis with probability ¼, else nothing: the eigenvalue is ¼.
            let rows: Vec<f64> = (0..draws)
                .flat_map(|_| {
                    if stream.chance(0.25) {
                        [if stream.chance(0.5) { 1.0 } else { -1.0 }, 0.0]
                    } else {
                        [0.0, 0.0]
                    }
                })
                .collect();
            let config = SmoothingConfig { draws, delta, top: 1.0, ..SmoothingConfig::default() };
            let found = SmoothingSamples { rows, center: vec![0.0; 2], config }.covariance();
            missed += usize::from(found.top < 0.25);
        }
        // Half of δ is spent on this limit; three standard errors of 1,000 trials at 5 % are 21.
        assert!(missed <= 50 + 21, "{missed} of {trials}");
    }
}
