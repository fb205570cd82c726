//! Certificates of smoothed encoders, for networks too deep for linear bounds: they need no structure at all.

use crate::error::CertifyError;
use crate::rounding::{above, slack};
use serde::{Deserialize, Serialize};
use tarrl_bound::confidence::accuracy_lower;
use tarrl_bound::linalg::symmetric_norm;
use tarrl_tensor::{DType, Key, Random, Tensor};

/// How an encoder is smoothed, and what is claimed of it.
///
/// The smoothed encoder is the mean `F(x) = E f(x + σξ)` over normal noise ξ. Its certificates speak of `F`, never
/// of `f`, and hold with probability `1 − delta` over the noise that was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmoothingConfig {
    /// σ: the deviation of the noise, in pixels.
    pub sigma: f64,
    /// N: draws for each sample.
    pub draws: usize,
    /// δ: the probability that a claim about one sample is wrong.
    pub delta: f64,
    /// An upper bound of `‖f(x) − c‖` over all inputs: 2 for representations on the unit sphere and any unit `c`.
    /// An encoder without one has to be normalized first.
    pub top: f64,
    /// Draws in memory at a time; changes no result.
    pub batch: usize,
}

/// A thousand draws of deviation ¼ on the sphere, wrong for one sample in a thousand.
impl Default for SmoothingConfig {
    fn default() -> Self {
        SmoothingConfig { sigma: 0.25, draws: 1000, delta: 1e-3, top: 2.0, batch: 250 }
    }
}

/// The representations of one sample under noise.
#[derive(Clone, Debug, PartialEq)]
pub struct SmoothedCertificate {
    /// `(N, d)` row-major.
    pub rows: Vec<f64>,
    /// `(d)`: the representation without noise, a reference that the noise does not depend on.
    pub center: Vec<f64>,
    /// What was drawn.
    pub config: SmoothingConfig,
}

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

/// The representations of sample `x` `(1, …)` under `config.draws` draws of noise; draw `i` is of `key.fold(i)`.
///
/// The noise is drawn in f64, added and rounded once. The encoder may be any deterministic program: rounding
/// inside it needs no analysis, because nothing is assumed of it.
///
/// # Errors
/// If a setting is out of its range or a representation is not finite.
///
/// # Panics
/// If `x` is not one sample.
#[track_caller]
pub fn smoothed_certificate(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    config: &SmoothingConfig,
    key: Key,
) -> Result<SmoothedCertificate, CertifyError> {
    assert_eq!(x.shape()[0], 1, "smoothed_certificate: one sample at a time, not {:?}", x.shape());
    config.check()?;
    let wide = x.cast(DType::F64);
    let mut rows = Vec::new();
    for start in (0..config.draws).step_by(config.batch) {
        let keys: Vec<Key> = (start..config.draws.min(start + config.batch)).map(|i| key.fold(i)).collect();
        let noise = Tensor::random(x.device(), Random::Normal, &keys, &x.shape()[1..], DType::F64);
        let u = (&wide + &noise.mul_scalar(config.sigma)).cast(x.dtype());
        rows.extend(encoder(&u).array().to_f64());
    }
    let center = encoder(x).array().to_f64();
    if !rows.iter().chain(&center).all(|v| v.is_finite()) {
        return Err(CertifyError::NotFinite("a representation under noise".into()));
    }
    Ok(SmoothedCertificate { rows, center, config: *config })
}

impl SmoothingConfig {
    fn check(&self) -> Result<(), CertifyError> {
        let settings = [
            (
                "smoothing.sigma",
                self.sigma,
                self.sigma > 0.0 && self.sigma.is_finite(),
                "it must be positive",
            ),
            ("smoothing.draws", self.draws as f64, self.draws >= 2, "take at least two"),
            ("smoothing.delta", self.delta, self.delta > 0.0 && self.delta < 1.0, "it lies between 0 and 1"),
            (
                "smoothing.top",
                self.top,
                self.top > 0.0 && self.top.is_finite(),
                "it must be positive and finite",
            ),
            ("smoothing.batch", self.batch as f64, self.batch >= 1, "take at least one"),
        ];
        match settings.into_iter().find(|(.., good, _)| !good) {
            Some((field, value, _, range)) => Err(CertifyError::Setting { field, value, range }),
            None => Ok(()),
        }
    }
}

impl SmoothedCertificate {
    /// `(d)`: the mean of the draws, which stands for `F(x)`.
    pub fn mean(&self) -> Vec<f64> {
        let (d, n) = (self.center.len(), self.config.draws as f64);
        let mut mean = vec![0.0; d];
        for row in self.rows.chunks(d) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
        }
        mean
    }

    /// How far the mean may be from `F(x)`, with probability `1 − delta`: `(B/√N)(1 + √(2 ln(1/δ)))`.
    pub fn mean_error(&self) -> f64 {
        let SmoothingConfig { draws, delta, top, .. } = self.config;
        top / (draws as f64).sqrt() * (1.0 + (2.0 * (1.0 / delta).ln()).sqrt())
    }

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
        let log = |delta: f64| (1.0 / delta).ln() / n as f64;
        // Half of δ for the eigenvalue, half for the uniform statement that uses it.
        let top = square * inverse_kl((seen / square).min(1.0), log(0.5 * self.config.delta));
        let rate = log(0.5 * self.config.delta / d as f64);
        let margin = (2.0 * square * top * rate).sqrt() + 2.0 / 3.0 * square * rate + slack(n) * trace;
        CovarianceCertificate { moment, margin, top, sigma: self.config.sigma, d }
    }

    /// The radius of the Euclidean ball in which a head on `f(x + σξ)`, judged by the majority of all noise, gives
    /// `label`: `σ Φ⁻¹(p)` with `p` the lower confidence limit of its share; `None` if it is no majority. Theorem S3
    /// (docs/certificates.md). The head must not have seen the noise; for `T` heads use `delta / T`.
    pub fn certified_radius(&self, head: &dyn Fn(&[f64]) -> usize, label: usize, delta: f64) -> Option<f64> {
        let votes = self.rows.chunks(self.center.len()).filter(|z| head(z) == label).count();
        let share = accuracy_lower(votes, self.config.draws, delta);
        (share > 0.5).then(|| self.config.sigma * normal_quantile(share))
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

/// `√(e^{ρ²} − 1)`: how many deviations a mean may move when the noise is shifted by `ρ` of its own.
pub fn growth(rho: f64) -> f64 {
    (rho * rho).exp_m1().sqrt()
}

/// `2B erf(ρ / 2√2)`: how far the mean of anything of norm at most `B` moves, from the total variation alone.
pub fn total_variation_radius(top: f64, rho: f64) -> f64 {
    2.0 * top * libm::erf(rho / (2.0 * std::f64::consts::SQRT_2))
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
    let quantile = normal_quantile(0.5 * (1.0 + share)) - rho;
    let along = libm::erf(quantile / std::f64::consts::SQRT_2);
    if along >= 0.0 { along } else { -1.0 }
}

/// `sup { q ≥ p : kl(p, q) ≤ rate }` of two coins, by bisection, rounded up.
fn inverse_kl(p: f64, rate: f64) -> f64 {
    let term = |a: f64, b: f64| if a > 0.0 { a * (a / b).ln() } else { 0.0 };
    let kl = |q: f64| term(p, q) + term(1.0 - p, 1.0 - q);
    let (mut low, mut high) = (p, 1.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if kl(middle) <= rate { low = middle } else { high = middle }
    }
    high
}

/// `Φ⁻¹(p)`, rounded down.
fn normal_quantile(p: f64) -> f64 {
    let distribution = |t: f64| 0.5 * libm::erfc(-t / std::f64::consts::SQRT_2);
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if distribution(middle) < p { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::device;

    /// Published values of √(e^{ρ²} − 1)·sd and of the total variation form.
    #[test]
    fn golden_values() {
        assert!((0.2 * growth(0.5) - 0.10658807000555766).abs() < 1e-15);
        assert!((total_variation_radius(1.0, 0.5) - 0.39482530273169486).abs() < 1e-15);
        for (rho, square) in [
            (0.1, 0.010050167084168),
            (0.25, 0.064494458917859),
            (0.5, 0.284025416687742),
            (1.0, 1.718281828459045),
        ] {
            assert!((growth(rho).powi(2) - square).abs() < 1e-14, "{rho}");
        }
        // kl(0, q) = −ln(1 − q), so that the limit is 1 − e^{−rate}.
        assert!((inverse_kl(0.0, 0.3) - (1.0 - (-0.3f64).exp())).abs() < 1e-12);
        assert!((normal_quantile(0.975) - 1.959963984540054).abs() < 1e-12);
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

    /// A thousand encoders into the plane with values on the unit circle, steps at random places: direction and length of
    /// their means under noise, by the normal distribution function, against both forms. Two values attain the second.
    #[test]
    fn directions_stay_within_the_total_variation() {
        let phi = |t: f64| 0.5 * libm::erfc(-t / std::f64::consts::SQRT_2);
        let mut said = 0;
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
            said += usize::from(bound > 0.0);
        }
        assert!(said > 300, "the bound says nothing: {said}");
        // f = ±1 by the sign of the noise beyond t: along F(x) the mean falls to exactly this.
        let (t, rho) = (-1.0, 0.5);
        let along = |x: f64| 1.0 - 2.0 * phi(t - x);
        assert!((along(-rho) - total_variation_cosine(along(0.0), rho)).abs() < 1e-9);
        assert!(along(-rho) < total_variation_cosine(along(0.0), 0.95 * rho));
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
            let smoothed_certificate = smoothed_certificate(&encode, &x, &config, key).unwrap();
            let found = smoothed_certificate.covariance();
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
            let mean = smoothed_certificate.mean();
            assert!((mean[0] - before[0]).hypot(mean[1] - before[1]) <= smoothed_certificate.mean_error());
        }
        assert!(inside > 170, "the bounds say nothing: {inside}");
    }

    /// The mean of an affine map moves by ε for each unit of its slope, and its deviation is σ: at ρ = 0.1 the certificate is
    /// above the truth by √(e^{0.01} − 1)/0.1 = 1.0025, so that a twentieth less of it is wrong.
    #[test]
    fn the_covariance_certificate_cannot_be_smaller_by_a_twentieth() {
        let mut stream = Key::new(19).stream();
        let (draws, sigma) = (200_000, 0.5);
        let rows: Vec<f64> = (0..draws).map(|_| 3.0 * sigma * stream.normal()).collect();
        let config = SmoothingConfig { sigma, draws, delta: 1e-3, top: 12.0, batch: 1 };
        let found = SmoothedCertificate { rows, center: vec![0.0], config }.covariance();
        let (epsilon, moved) = (0.1 * sigma, 3.0 * 0.1 * sigma);
        // What is known of the variance after so many draws costs two per cent.
        let support = found.support(&[1.0], epsilon);
        assert!(moved <= support && moved > 0.95 * support, "{moved} {support}");
        let radius = found.radius(epsilon);
        assert!(moved <= radius && moved > 0.95 * radius, "{moved} {radius}");
    }

    /// For a linear classifier the true radius is the distance to the boundary: a thousand classifiers in the plane and
    /// points beside their boundaries, with δ so small that a single miss is an error.
    #[test]
    fn the_radius_of_votes_is_below_the_distance_to_the_boundary() {
        let mut said = 0;
        for trial in 0..1000usize {
            let mut stream = Key::new(9).fold(trial).stream();
            let config =
                SmoothingConfig { sigma: stream.uniform(0.1, 0.8), draws: 500, ..SmoothingConfig::default() };
            let angle = stream.uniform(0.0, std::f64::consts::TAU);
            let normal = [angle.cos(), angle.sin()];
            let distance = stream.uniform(-0.3, 1.0);
            let at = normal.map(|n| n * distance);
            let rows = (0..2 * config.draws).map(|i| at[i % 2] + config.sigma * stream.normal()).collect();
            let smoothed_certificate = SmoothedCertificate { rows, center: at.to_vec(), config };
            let head = |z: &[f64]| usize::from(z[0] * normal[0] + z[1] * normal[1] > 0.0);
            let radius = smoothed_certificate.certified_radius(&head, 1, 1e-6);
            assert!(radius.is_none_or(|r| r <= distance), "{radius:?} {distance}");
            said += usize::from(radius.is_some());
        }
        assert!(said > 500, "the radius says nothing: {said}");
    }

    /// With many draws next to nothing is lost, so that the share of votes cannot certify a twentieth more.
    #[test]
    fn the_radius_of_votes_is_nearly_the_distance() {
        let mut stream = Key::new(10).stream();
        let config = SmoothingConfig { sigma: 0.5, draws: 100_000, ..SmoothingConfig::default() };
        let rows = (0..config.draws).map(|_| 0.5 + config.sigma * stream.normal()).collect();
        let smoothed_certificate = SmoothedCertificate { rows, center: vec![0.5], config };
        let head = |z: &[f64]| usize::from(z[0] > 0.0);
        let radius = smoothed_certificate.certified_radius(&head, 1, 1e-3).unwrap();
        assert!(radius <= 0.5 && radius / 0.95 > 0.5, "{radius}");
        assert_eq!(smoothed_certificate.certified_radius(&head, 0, 1e-3), None);
    }

    /// Over many clouds the confidence limit of the eigenvalue misses the truth no more often than it says.
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
            let found = SmoothedCertificate { rows, center: vec![0.0; 2], config }.covariance();
            missed += usize::from(found.top < 0.25);
        }
        // Half of δ is spent on this limit; three standard errors of 1,000 trials at 5 % are 21.
        assert!(missed <= 50 + 21, "{missed} of {trials}");
    }

    #[test]
    fn senseless_settings_are_refused() {
        let x = Tensor::new(&device(), [1, 1], &[0.5]);
        let refused = |config: SmoothingConfig| {
            smoothed_certificate(&|x: &Tensor| x.clone(), &x, &config, Key::new(1)).unwrap_err().to_string()
        };
        let usual = SmoothingConfig::default();
        assert!(refused(SmoothingConfig { sigma: 0.0, ..usual }).contains("smoothing.sigma is 0"));
        assert!(refused(SmoothingConfig { delta: 1.5, ..usual }).contains("smoothing.delta is 1.5"));
        assert!(refused(SmoothingConfig { top: f64::INFINITY, ..usual }).contains("smoothing.top"));
    }
}
