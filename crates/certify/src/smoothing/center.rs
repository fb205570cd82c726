//! Center smoothing (Kumar & Goldstein 2021) among fixed candidates: a certificate without any bound on the encoder.
//! Theorem S5 of docs/certificates.md.

use super::samples::SmoothingSamples;
use crate::rounding::{above, slack, up};
use tarrl_bound::stochastic::{normal_cdf, normal_quantile};
use tarrl_tensor::math;

/// The candidate around which the least ball with more than half of the draws lies, and how far it may move.
///
/// The claim is about this very procedure with as many draws and the same candidates at any other point of the ball:
/// with probability `1 − delta` over the noise here, the representation there is within `radius` with probability
/// `1 − delta` over the noise there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CenterCertificate {
    /// The number of the candidate that represents the sample.
    pub candidate: usize,
    /// An upper bound of the distance to the representation of any point within ε; infinite where there are too few
    /// draws.
    pub radius: f64,
}

impl SmoothingSamples {
    /// Represents the sample by one of `candidates` `(m, d)` row-major, such as the representations of a bank of
    /// clean images, and bounds how far that moves within the Euclidean ball of radius `epsilon`.
    ///
    /// Unlike [`SmoothingSamples::covariance`] it needs no bound on the encoder and no ε below σ, but it does not vanish with ε:
    /// twice the spread of the noise is its least. The candidates have to be fixed before the noise is drawn.
    ///
    /// # Panics
    /// If there is no candidate, or one has not `d` elements.
    #[track_caller]
    pub fn center(&self, candidates: &[f64], epsilon: f64) -> CenterCertificate {
        let (d, n) = (self.center.len(), self.config.draws);
        assert!(
            !candidates.is_empty() && candidates.len().is_multiple_of(d),
            "center: {} numbers are no candidates of {d} features",
            candidates.len()
        );
        let m = candidates.len() / d;
        // The uniform distance of distribution functions, for all candidates at once, rounded up.
        let margin = (math::ln(2.0 * m as f64 / self.config.delta) / (2.0 * n as f64)).sqrt() * (1.0 + 1e-12);
        // Distances in order; what a mass is reached at.
        let radius = |distances: &[f64], mass: f64| {
            let draws = (mass * n as f64).ceil();
            if draws <= n as f64 { distances[(draws as usize).max(1) - 1] } else { f64::INFINITY }
        };
        let half = up(0.5 + margin);
        let (mut candidate, mut least, mut nearest) = (0, f64::INFINITY, vec![]);
        for (at, row) in candidates.chunks(d).enumerate() {
            let distances = self.distances(row);
            let reached = radius(&distances, half);
            if nearest.is_empty() || reached < least {
                (candidate, least, nearest) = (at, reached, distances);
            }
        }
        // What more than half of the mass at the other point comes from here, at least.
        let inner = up(half + margin);
        let mass = if inner < 1.0 {
            let shifted = normal_quantile(inner) + epsilon / self.config.sigma;
            // The normal distribution function and its inverse are known to thirteen digits.
            (normal_cdf(shifted) + margin) * (1.0 + 1e-12)
        } else {
            f64::INFINITY
        };
        // Distances here and there are rounded.
        let radius = above(2.0 * radius(&nearest, mass) * (1.0 + 4.0 * slack(d + 4)), 4);
        CenterCertificate { candidate, radius }
    }

    /// The distances of all draws from `point`, in order.
    fn distances(&self, point: &[f64]) -> Vec<f64> {
        let distance = |row: &[f64]| {
            let square: f64 = row.iter().zip(point).map(|(a, b)| (a - b) * (a - b)).sum();
            square.sqrt()
        };
        let mut distances: Vec<f64> = self.rows.chunks(point.len()).map(distance).collect();
        distances.sort_by(f64::total_cmp);
        distances
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smoothing::SmoothingConfig;
    use tarrl_tensor::{Key, Stream};

    /// Samples of a function of one number.
    fn samples(
        f: &dyn Fn(f64) -> Vec<f64>,
        x: f64,
        config: SmoothingConfig,
        stream: &mut Stream,
    ) -> SmoothingSamples {
        let rows = (0..config.draws).flat_map(|_| f(x + config.sigma * stream.normal())).collect();
        SmoothingSamples { rows, center: f(x), config }
    }

    fn config(draws: usize, delta: f64) -> SmoothingConfig {
        SmoothingConfig { sigma: 0.5, draws, delta, ..SmoothingConfig::default() }
    }

    /// Draws 1, 2, …, 1000 and candidates 0, 500 and 1000, δ = 6 e⁻²⁰: the margin is √(20/2000) = 0.1. Around 500 the
    /// first 600 draws reach 300, around the others 600 and 599. Φ(Φ⁻¹(0.7) + 0.4) + 0.1 = 0.8224 + 0.1 is 923 draws,
    /// which reach 461 from 500.
    #[test]
    fn the_center_of_a_thousand_equidistant_draws() {
        let delta = 6.0 * (-20.0f64).exp();
        let rows = (1..=1000).map(f64::from).collect();
        let samples = SmoothingSamples { rows, center: vec![0.0], config: config(1000, delta) };
        let found = samples.center(&[0.0, 500.0, 1000.0], 0.2);
        assert_eq!(found.candidate, 1);
        assert!(found.radius >= 922.0 && found.radius < 922.0 + 1e-6, "{}", found.radius);
        // At ε = 0 it is 800 draws, 400 from 500.
        let still = samples.center(&[0.0, 500.0, 1000.0], 0.0).radius;
        assert!((800.0..802.0 + 1e-6).contains(&still), "{still}");
        // More mass than there is.
        assert_eq!(samples.center(&[500.0], 2.0).radius, f64::INFINITY);
    }

    /// A thousand random curves into the plane with jumps, two points of each within ε of one another, and noise of their
    /// own: the representation never moves farther than certified. δ is so small that a single miss is an error.
    #[test]
    fn no_center_moves_farther_than_certified() {
        let (mut informative, mut moving) = (0, 0);
        for trial in 0..1000usize {
            let mut stream = Key::new(23).fold(trial).stream();
            let edges: Vec<f64> = (0..3).map(|_| stream.uniform(-1.0, 1.0)).collect();
            let [a, b, c] = [0; 3].map(|_| stream.uniform(-1.5, 1.5));
            let f = |x: f64| {
                let jump = edges.iter().filter(|&&edge| x > edge).count() as f64;
                vec![a * x + 0.3 * jump, (b * x).sin() + c * jump]
            };
            let candidates: Vec<f64> = (0..40).map(|_| stream.uniform(-2.0, 2.0)).collect();
            let config = config(1500, 1e-6);
            let epsilon = stream.uniform(0.0, 0.6);
            let x = stream.uniform(-0.5, 0.5);
            let here = samples(&f, x, config, &mut stream).center(&candidates, epsilon);
            let shift = if stream.chance(0.5) { epsilon } else { -epsilon };
            let there = samples(&f, x + shift, config, &mut stream).center(&candidates, epsilon);
            let at = |c: CenterCertificate| [candidates[2 * c.candidate], candidates[2 * c.candidate + 1]];
            let moved = (at(here)[0] - at(there)[0]).hypot(at(here)[1] - at(there)[1]);
            assert!(moved <= here.radius, "{trial}: moved {moved} of {}", here.radius);
            informative += usize::from(here.radius.is_finite());
            moving += usize::from(here.candidate != there.candidate);
        }
        assert!(informative > 300 && moving > 300, "{informative} radii are finite, {moving} centers move");
    }

    /// Values just left or right of 1, candidates 0 and 2: the center jumps by nearly twice the radius of its ball, so
    /// that a twentieth less than twice is wrong.
    #[test]
    fn the_factor_cannot_be_smaller_by_a_twentieth() {
        let f = |x: f64| vec![if x < 0.0 { 0.99 } else { 1.01 }];
        let mut stream = Key::new(29).stream();
        let config = config(4000, 1e-3);
        let mut at = |x: f64| samples(&f, x, config, &mut stream).center(&[0.0, 2.0], 0.6);
        let (here, there) = (at(-0.3), at(0.3));
        assert_eq!((here.candidate, there.candidate), (0, 1));
        assert!(2.0 <= here.radius && 2.0 > 0.95 * here.radius, "{}", here.radius);
    }

    #[test]
    fn a_draw_that_is_no_number_is_farther_than_all_others() {
        let rows = (1..=1000).map(|i| if i > 10 { f64::NAN } else { 1.0 }).collect();
        let found =
            SmoothingSamples { rows, center: vec![0.0], config: config(1000, 0.1) }.center(&[1.0], 0.1);
        assert!(found.radius.is_nan(), "{}", found.radius);
    }
}
