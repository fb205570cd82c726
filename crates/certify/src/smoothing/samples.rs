//! Samples of a representation under Gaussian noise, and the certified radius of a majority vote: Theorem S3 of
//! docs/certificates.md.

use super::normal::quantile_rounded_down;
use crate::error::CertifyError;
use serde::{Deserialize, Serialize};
use tarrl_bound::LpNorm;
use tarrl_bound::confidence::accuracy_lower;
use tarrl_tensor::{DType, Key, Random, Tensor, math};

/// How an encoder is smoothed.
///
/// The smoothed encoder is the mean `F(x) = E f(x + σξ)` over standard normal noise ξ. Certificates bound `F`, never
/// `f`, and hold with probability `1 − delta` over the noise that was drawn.
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

/// Representations of one sample under Gaussian noise: what smoothing certificates are computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct SmoothingSamples {
    /// `(N, d)` row-major.
    pub rows: Vec<f64>,
    /// `(d)`: the representation without noise, a reference that the noise does not depend on.
    pub center: Vec<f64>,
    /// What was drawn.
    pub config: SmoothingConfig,
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
pub fn draw_smoothing_samples(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    config: &SmoothingConfig,
    key: Key,
) -> Result<SmoothingSamples, CertifyError> {
    assert_eq!(x.shape()[0], 1, "draw_smoothing_samples: one sample at a time, not {:?}", x.shape());
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
    let apart = |row: &[f64]| LpNorm::L2.distance(row, &center);
    let farthest = rows.chunks(center.len().max(1)).map(apart).fold(0.0, f64::max);
    // Unit vectors in f32 are so to some 1e-6.
    if farthest > config.top * (1.0 + 1e-5) {
        let range =
            "a draw is farther from the representation than that; give a bound, or normalize the encoder";
        return Err(CertifyError::Setting { field: "smoothing.top", value: config.top, range });
    }
    Ok(SmoothingSamples { rows, center, config: *config })
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

impl SmoothingSamples {
    /// `(d)`: the mean of the draws, an estimate of `F(x)`.
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
        top / (draws as f64).sqrt() * (1.0 + (2.0 * math::ln(1.0 / delta)).sqrt())
    }

    /// The radius of the Euclidean ball in which a head on `f(x + σξ)`, as a majority vote over the noise, gives
    /// `label`: `σ Φ⁻¹(p)` with `p` the lower confidence limit of its share; `None` if it is no majority. Theorem S3
    /// (docs/certificates.md). The head must be fixed before the noise is drawn; for `T` heads use `delta / T`.
    pub fn certified_radius(&self, head: &dyn Fn(&[f64]) -> usize, label: usize, delta: f64) -> Option<f64> {
        let votes = self.rows.chunks(self.center.len()).filter(|z| head(z) == label).count();
        let share = accuracy_lower(votes, self.config.draws, delta);
        (share > 0.5).then(|| self.config.sigma * quantile_rounded_down(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::device;

    /// For a linear classifier the true radius is the distance to the boundary: a thousand classifiers in the plane and
    /// points beside their boundaries, with δ so small that a single miss is an error.
    #[test]
    fn the_radius_of_votes_is_below_the_distance_to_the_boundary() {
        let mut informative = 0;
        for trial in 0..1000usize {
            let mut stream = Key::new(9).fold(trial).stream();
            let config =
                SmoothingConfig { sigma: stream.uniform(0.1, 0.8), draws: 500, ..SmoothingConfig::default() };
            let angle = stream.uniform(0.0, std::f64::consts::TAU);
            let normal = [angle.cos(), angle.sin()];
            let distance = stream.uniform(-0.3, 1.0);
            let at = normal.map(|n| n * distance);
            let rows = (0..2 * config.draws).map(|i| at[i % 2] + config.sigma * stream.normal()).collect();
            let samples = SmoothingSamples { rows, center: at.to_vec(), config };
            let head = |z: &[f64]| usize::from(z[0] * normal[0] + z[1] * normal[1] > 0.0);
            let radius = samples.certified_radius(&head, 1, 1e-6);
            assert!(radius.is_none_or(|r| r <= distance), "{radius:?} {distance}");
            informative += usize::from(radius.is_some());
        }
        assert!(informative > 500, "too few radii are finite: {informative}");
    }

    /// With many draws next to nothing is lost, so that the share of votes cannot certify a twentieth more.
    #[test]
    fn the_radius_of_votes_is_nearly_the_distance() {
        let mut stream = Key::new(10).stream();
        let config = SmoothingConfig { sigma: 0.5, draws: 100_000, ..SmoothingConfig::default() };
        let rows = (0..config.draws).map(|_| 0.5 + config.sigma * stream.normal()).collect();
        let samples = SmoothingSamples { rows, center: vec![0.5], config };
        let head = |z: &[f64]| usize::from(z[0] > 0.0);
        let radius = samples.certified_radius(&head, 1, 1e-3).unwrap();
        assert!(radius <= 0.5 && radius / 0.95 > 0.5, "{radius}");
        assert_eq!(samples.certified_radius(&head, 0, 1e-3), None);
    }

    /// A bound that a draw exceeds is none: certificates would be too small.
    #[test]
    fn a_bound_that_draws_exceed_is_refused() {
        let x = Tensor::new(&device(), [1, 1], &[0.5]);
        let draw = |top| {
            let config = SmoothingConfig { top, sigma: 1.0, ..SmoothingConfig::default() };
            draw_smoothing_samples(&|x: &Tensor| x.mul_scalar(3.0), &x, &config, Key::new(1))
        };
        assert!(draw(2.0).unwrap_err().to_string().contains("smoothing.top is 2; a draw is farther"));
        assert!(draw(20.0).is_ok());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let x = Tensor::new(&device(), [1, 1], &[0.5]);
        let refused = |config: SmoothingConfig| {
            draw_smoothing_samples(&|x: &Tensor| x.clone(), &x, &config, Key::new(1)).unwrap_err().to_string()
        };
        let usual = SmoothingConfig::default();
        assert!(refused(SmoothingConfig { sigma: 0.0, ..usual }).contains("smoothing.sigma is 0"));
        assert!(refused(SmoothingConfig { delta: 1.5, ..usual }).contains("smoothing.delta is 1.5"));
        assert!(refused(SmoothingConfig { top: f64::INFINITY, ..usual }).contains("smoothing.top"));
    }
}
