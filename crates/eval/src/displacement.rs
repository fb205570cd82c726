//! Displacements of representations within a ball: the largest that an attack reached, and the certified bound.

use serde::{Deserialize, Serialize};
use tarrl_attacks::{Pgd, Threat, pgd};
use tarrl_certify::{Certificate, Network};
use tarrl_tensor::{Key, Tensor};

use crate::bound_error::BoundError;
use crate::features::rows;

/// Stands for infinity, which JSON lacks: a bound at this value claims nothing.
pub const NO_CLAIM: f64 = 1e30;

/// How far the representations of some images move within one ball `B(x)`.
///
/// `reached ≤ max_{x' ∈ B(x)} ‖f(x') − f(x)‖₂ ≤ certified`, image by image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Displacements {
    /// Radius ε of the ball, in pixels.
    pub epsilon: f64,
    /// `(n)`: the certified displacement of each image; [`NO_CLAIM`] where nothing is certified.
    pub certified: Vec<f64>,
    /// `(n)`: the largest displacement that an attack without a task reached, computed in f64.
    pub reached: Vec<f64>,
    /// `(n, d)`, row-major: the representations at the points where that attack ended, in f64.
    pub ends: Vec<f64>,
}

impl Displacements {
    /// Attacks the representations of `images (n, h, w, c)` and compares what is reached with `certificates`, one for
    /// each image, that were made for the same `threat` model.
    ///
    /// `encoder` is in inference mode; `network` is what [`Network::trace`] made of it, and evaluates the attacked points
    /// in f64, the arithmetic that certificates speak of. `attack` is used as it is; [`displacement_attack`] makes the one of the
    /// study. Image `i` draws its starting point from `key.fold(i)`.
    ///
    /// # Errors
    /// If a representation is not finite or an attack exceeds a certificate, which is an error in the program.
    pub fn measure(
        encoder: &dyn Fn(&Tensor) -> Tensor,
        network: &Network,
        images: &Tensor,
        threat: &Threat,
        certificates: &[Certificate],
        attack: &Pgd,
        key: Key,
    ) -> Result<Self, BoundError> {
        let keys: Vec<Key> = (0..images.shape()[0]).map(|i| key.fold(i)).collect();
        let end = most_displaced(encoder, images, threat, attack, &keys);
        let ends = network.forward(&end).array().to_f64();
        let clean = network.forward(images).array().to_f64();
        check_finite(&[&ends, &clean], threat.epsilon)?;
        let reached = row_distances(&ends, &clean, network.features());
        let certified: Vec<f64> = certificates.iter().map(Certificate::radius).collect();
        check_certified(&reached, &certified, threat.epsilon)?;
        let certified = certified.into_iter().map(|radius| radius.min(NO_CLAIM)).collect();
        Ok(Self { epsilon: threat.epsilon, certified, reached, ends })
    }

    /// The median over the images of certified over reached displacement; [`NO_CLAIM`] where nothing moved.
    pub fn tightness(&self) -> f64 {
        median(self.certified.iter().zip(&self.reached).map(|(c, r)| (c / r).min(NO_CLAIM)))
    }
}

/// PGD on the displacement. It starts at random points: at the image itself the displacement has no gradient.
pub fn displacement_attack(threat: &Threat, steps: usize, restarts: usize) -> Pgd {
    Pgd { restarts, ..Pgd::usual(threat, steps) }
}

/// What an ascent of the displacement reached, in the arithmetic of the encoder.
#[derive(Clone, Debug)]
pub struct ReachedDisplacements {
    /// `(n)`: how far the ascent moved each representation.
    pub reached: Vec<f64>,
    /// `(n, d)`, row-major: the representations of the images.
    pub clean: Vec<f64>,
    /// `(n, d)`, row-major: the representations where the ascent ended.
    pub ends: Vec<f64>,
}

/// Attacks the representations of `images (n, h, w, c)` without any label, and needs no network that certificates know: for
/// encoders that have none. Image `i` draws its starting point from `keys[i]`.
///
/// What is reached is a lower bound of `max_{x' ∈ B(x)} ‖f(x') − f(x)‖₂`.
///
/// # Panics
/// If the attack leaves the ball, or there is not one key for each image.
#[track_caller]
pub fn displacements(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    threat: &Threat,
    attack: &Pgd,
    keys: &[Key],
) -> ReachedDisplacements {
    let end = most_displaced(encoder, images, threat, attack, keys);
    let clean = encoder(images).detach();
    let d = clean.shape()[1];
    let (clean, ends) = (clean.array().to_f64(), encoder(&end).detach().array().to_f64());
    ReachedDisplacements { reached: row_distances(&ends, &clean, d), clean, ends }
}

/// The points of the ball where an ascent of the squared displacement `‖f(u) − f(x)‖²` ended, shaped as `images`.
///
/// # Panics
/// If the attack leaves the ball.
#[track_caller]
pub(crate) fn most_displaced(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    threat: &Threat,
    attack: &Pgd,
    keys: &[Key],
) -> Tensor {
    let clean = encoder(images).detach();
    let moved =
        |u: &Tensor, of: &[usize]| (&encoder(u) - &rows(&clean, of)).square().sum(1).reshape([of.len()]);
    let found = pgd(images, &moved, threat, attack, keys).best;
    crate::robust_batch::check_inside(images, &found, threat);
    found
}

/// `(n)`: the Euclidean distance of each row of `a` from that of `b`, both `(n, d)` and row-major.
pub(crate) fn row_distances(a: &[f64], b: &[f64], d: usize) -> Vec<f64> {
    let distance =
        |(a, b): (&[f64], &[f64])| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    a.chunks(d).zip(b.chunks(d)).map(distance).collect()
}

/// Compares the displacements that attacks reached with the certified ones, both `(n)`. There is no slack, because both
/// sides are computed in f64 and certificates cover its rounding.
///
/// # Errors
/// If an attack exceeded a certificate or a displacement is not a number. A certificate that is not a number claims
/// nothing.
pub(crate) fn check_certified(reached: &[f64], certified: &[f64], epsilon: f64) -> Result<(), BoundError> {
    // Counted by what holds, because a NaN compares as false.
    let images = reached.len() - reached.iter().zip(certified).filter(|(r, c)| c.is_nan() || r <= c).count();
    if images > 0 { Err(BoundError::CertificateViolated { images, epsilon }) } else { Ok(()) }
}

/// Fails if a representation is not finite: a maximum would pass over what is not a number, and claim that nothing moved.
pub(crate) fn check_finite(representations: &[&[f64]], epsilon: f64) -> Result<(), BoundError> {
    let finite = representations.iter().copied().flatten().all(|v| v.is_finite());
    if finite { Ok(()) } else { Err(BoundError::NotFinite { epsilon }) }
}

/// The mean Euclidean distance of the rows of `z (n, d)` from their mean: the scale of a representation, by which
/// displacements of different encoders are compared.
///
/// In plain f64 sums; [`tarrl_bound::spread`] is the differentiable form.
pub(crate) fn spread(z: &[f64], d: usize) -> f64 {
    let n = z.len() / d;
    let mut mean = vec![0.0; d];
    z.chunks(d).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n as f64));
    let center: Vec<f64> = mean.iter().copied().cycle().take(z.len()).collect();
    row_distances(z, &center, d).iter().sum::<f64>() / n as f64
}

/// The upper median.
///
/// # Panics
/// If there are no values.
#[track_caller]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    assert!(!values.is_empty(), "median: no values");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;
    use tarrl_attacks::Norm;

    /// For `f(x) = A x` and the Euclidean ball, `R(x) = ε ‖A‖₂`, the same for every image.
    #[test]
    fn the_displacement_of_a_linear_encoder_is_its_largest_singular_value() {
        let toy = Toy::new(6, 5, 4, 2, 1);
        let a = Tensor::new(toy.images.device(), [9, 4], &toy.matrix(9, 4));
        let threat = Threat { bounds: None, ..Threat::new(Norm::L2, 0.3) };
        let attack = Pgd { steps: 60, step_size: 0.3, ..Pgd::default() };
        let encoder = |x: &Tensor| x.reshape([x.shape()[0], 9]).matmul(&a);
        let keys: Vec<Key> = (0..5usize).map(|i| Key::new(1).fold(i)).collect();
        let end = most_displaced(&encoder, &toy.images, &threat, &attack, &keys);
        let [there, here] = [&end, &toy.images].map(|x| encoder(x).array().to_f64());
        let exact = 0.3 * crate::spectrum::Spectrum::of_gram(&a).values[0].sqrt();
        for radius in row_distances(&there, &here, 4) {
            // Never above the truth but for f32, and near it after sixty power iterations.
            assert!(radius <= exact * (1.0 + 1e-5) && radius >= exact * 0.999, "{radius} {exact}");
        }
    }

    #[test]
    fn an_attack_above_a_certificate_is_an_error() {
        assert!(check_certified(&[1.0, 0.5], &[1.0, 0.6], 0.1).is_ok());
        let error = check_certified(&[1.0, 0.7], &[1.0, 0.6], 0.1).unwrap_err().to_string();
        assert!(error.starts_with("an attack passed the certificates of 1 images at ε = 0.1"), "{error}");
        assert!(check_certified(&[f64::NAN], &[0.1], 0.1).is_err());
    }

    #[test]
    fn a_certificate_that_is_infinite_or_not_a_number_claims_nothing() {
        for nothing in [f64::NAN, f64::INFINITY] {
            assert!(check_certified(&[0.1], &[nothing], 0.1).is_ok());
        }
    }

    #[test]
    fn a_representation_that_is_not_a_number_is_an_error() {
        assert!(check_finite(&[&[0.0, 1.0], &[f64::MAX]], 0.1).is_ok());
        for wrong in [f64::NAN, f64::INFINITY] {
            assert!(matches!(check_finite(&[&[0.0], &[1.0, wrong]], 0.1), Err(BoundError::NotFinite { .. })));
        }
    }

    #[test]
    fn distances_are_taken_row_by_row() {
        assert_eq!(row_distances(&[3.0, 4.0, 1.0, 1.0], &[0.0, 0.0, 1.0, 0.0], 2), [5.0, 1.0]);
    }

    #[test]
    fn the_spread_is_the_mean_distance_from_the_mean() {
        assert_eq!(spread(&[0.0, 0.0, 6.0, 8.0], 2), 5.0);
    }
}
