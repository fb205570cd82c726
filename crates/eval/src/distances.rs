//! Distances from images: to the nearest mistake, to the nearest point where the representation has moved, and certified
//! radii below both.

use crate::bound_error::BoundError;
use crate::features::rows;
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Limits, Norm, Threat};
use tarrl_bound::LinearHead;
use tarrl_certify::{
    Certificate, Certificates, CertifyConfig, CertifyError, Cost, Network, Provenance, certify_until,
};
use tarrl_nearest::{Nearest, NearestOutcome, NearestRun, with_margin, with_scores};
use tarrl_tensor::{Key, Tensor};

/// What an attack found for one image.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FoundDistance {
    /// The distance of the nearest point found: 0 if the image itself is one, `None` if none was found.
    pub distance: Option<f64>,
    /// Forward passes.
    pub forward: u32,
    /// Backward passes.
    pub backward: u32,
}

/// Where the distance of an image from the nearest point of a set lies.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RadiusInterval {
    /// No point of the set is nearer; 0 where nothing is certified, `None` where nothing can be, for want of a rule.
    pub certified: Option<f64>,
    /// A point of the set is there; `None` if none was found.
    pub found: Option<f64>,
}

/// The nearest mistakes of `classify`, images `(m, h, w, c)` to logits `(m, k)`, around `images (n, h, w, c)` with pixels in
/// [0, 1], by the ensemble of a norm within so many passes of each image.
///
/// Image `i` has the key `keys[i]`; the result depends neither on the batch nor on the other images.
///
/// # Panics
/// If there are not as many labels and keys as images.
#[track_caller]
pub fn nearest_mistakes(
    classify: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    labels: &[u32],
    norm: Norm,
    passes: u32,
    keys: &[Key],
) -> Vec<FoundDistance> {
    let ball = Threat::new(norm, 1.0).around(images);
    let found = with_scores(&|u, _| classify(u), labels, &ball, keys, limits(passes), |target| {
        NearestRun::new(Nearest::ensemble(norm), target).run()
    });
    found_distances(&found)
}

/// The nearest points where the representation of an image is moved by at least `threshold`, without any label:
/// `‖f(u) − f(x)‖₂ ≥ threshold`, by the methods of [`nearest_mistakes`].
///
/// # Panics
/// If there are not as many keys as images.
#[track_caller]
pub fn nearest_moves(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    threshold: f64,
    norm: Norm,
    passes: u32,
    keys: &[Key],
) -> Vec<FoundDistance> {
    let clean = encoder(images).detach();
    let margin = |u: &Tensor, of: &[usize]| {
        let moved = (&encoder(u) - &rows(&clean, of)).square().sum(1).reshape([of.len()]);
        // Less than a millionth of the threshold keeps the root differentiable at the image itself.
        moved.add_scalar((SMOOTH * threshold).powi(2)).sqrt().neg().add_scalar(threshold)
    };
    let ball = Threat::new(norm, 1.0).around(images);
    let found = with_margin(&margin, &ball, keys, limits(passes), |target| {
        NearestRun::new(Nearest::ensemble(norm), target).run()
    });
    found_distances(&found)
}

/// What is added to displacements, as a share of the threshold, in squares.
const SMOOTH: f64 = 1e-6;

fn limits(passes: u32) -> Limits {
    Limits { budget: Some(passes), ..Limits::default() }
}

fn found_distances(found: &NearestOutcome) -> Vec<FoundDistance> {
    let of = |i: usize| FoundDistance {
        distance: Some(found.distance[i]).filter(|distance| distance.is_finite()),
        forward: found.forward[i],
        backward: found.backward[i],
    };
    (0..found.distance.len()).map(of).collect()
}

/// What a certificate of a ball has to show of its image, such as [`keeps_class`].
pub type Holds<'a> = dyn Fn(&Certificate, &CertifyConfig) -> Result<bool, CertifyError> + 'a;

/// Whether a linear head has an image with that label right at every point of a certified ball.
///
/// # Errors
/// If the head has another width.
pub fn keeps_class(
    head: &LinearHead,
    label: u32,
    certificate: &Certificate,
    config: &CertifyConfig,
) -> Result<bool, CertifyError> {
    let (encoder, samples) = (String::new(), String::new());
    let provenance = Provenance { encoder, samples, config: *config, cost: Cost::default() };
    let certificates = Certificates { provenance, samples: vec![certificate.clone()] };
    Ok(certificates.apply(head, &[label as usize], &[])?.chains[0].is_certified)
}

/// The interval of the distance of `image (1, h, w, c)` from a set that an attack `found` at a distance: a search for the
/// largest ball at which `holds` says that no point of the set is in it, of so many certificates at most.
///
/// The first ball has an eighth of the distance found, or of the box; the next an eighth of that as long as nothing is
/// certified, then the geometric mean of the largest that holds and the least that does not. `None` if `stop` said so.
///
/// # Errors
/// If the ball of the distance found is certified, which is an error in the program, or certificates cannot be made of a
/// number that is not finite.
#[allow(clippy::too_many_arguments, reason = "what is certified, how far, and what ends it")]
pub fn radius_interval(
    network: &Network,
    image: &Tensor,
    norm: Norm,
    found: &FoundDistance,
    certificates: usize,
    holds: &Holds<'_>,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Option<RadiusInterval>, BoundError> {
    let found = found.distance;
    if found == Some(0.0) {
        return Ok(Some(RadiusInterval { certified: Some(0.0), found }));
    }
    let config = |epsilon| CertifyConfig { threat: Threat::new(norm, epsilon), ..CertifyConfig::default() };
    let certified = |epsilon: f64| -> Result<Option<bool>, CertifyError> {
        let config = config(epsilon);
        let made = certify_until(network, image, &config, stop)?;
        made.map(|(made, _)| holds(&made[0], &config)).transpose()
    };
    let width = image.shape()[1..].iter().product::<usize>();
    let reach = norm.length(std::iter::repeat_n(1.0, width));
    let (mut low, mut high) = (0.0, found.unwrap_or(reach));
    for number in 0..=certificates {
        // The first is the one that cannot hold.
        let radius = match number {
            0 if found.is_none() => continue,
            0 => high * BEYOND,
            _ if low == 0.0 => high / 8.0,
            _ => f64::sqrt(low * high),
        };
        match certified(radius) {
            Ok(None) => return Ok(None),
            Ok(Some(true)) if number == 0 => {
                return Err(BoundError::CertificateViolated { images: 1, epsilon: radius });
            }
            Ok(Some(true)) => low = radius,
            Ok(Some(false)) if number == 0 => {}
            Ok(Some(false)) => high = radius,
            Err(CertifyError::UnsupportedNorm(_)) => {
                return Ok(Some(RadiusInterval { certified: None, found }));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(RadiusInterval { certified: Some(low), found }))
}

/// How much farther than what an attack found a ball is that cannot be certified: points are found in the arithmetic of
/// the encoder, and certificates speak of real numbers.
const BEYOND: f64 = 1.001;

/// The steps of the share of images whose distance is above ε, from ε = 0 on: `(ε, images)` before and after each distance.
/// An image without a distance counts at every ε.
///
/// ```
/// use tarrl_eval::survivors;
///
/// let steps = survivors(&[Some(0.5), None, Some(0.0)]);
/// assert_eq!(steps, [(0.0, 2), (0.5, 2), (0.5, 1)]);
/// ```
pub fn survivors(distances: &[Option<f64>]) -> Vec<(f64, usize)> {
    let mut finite: Vec<f64> = distances.iter().copied().flatten().filter(|&d| d > 0.0).collect();
    finite.sort_by(f64::total_cmp);
    let wrong = distances.iter().filter(|&&d| d == Some(0.0)).count();
    let mut left = distances.len() - wrong;
    let mut steps = vec![(0.0, left)];
    for distance in finite {
        steps.push((distance, left));
        left -= 1;
        steps.push((distance, left));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;

    const NEVER: &(dyn Fn() -> bool + Sync) = &|| false;

    /// Certified ≤ found for mistakes and moves, and the image alone has the bits that it has among others.
    #[test]
    fn intervals_hold_and_do_not_depend_on_the_batch() {
        let toy = Toy::new(5, 6, 4, 3, 1);
        let encode = |x: &Tensor| toy.encode(x);
        let head = crate::DeviceHead::new(&toy.head, toy.images.device(), toy.images.dtype());
        let classify = |x: &Tensor| head.forward(&toy.encode(x));
        let network = Network::trace(&encode, &toy.images.slice(0, 0, 1)).unwrap();
        let keys: Vec<Key> = (0..6usize).map(|i| Key::new(1).fold(i)).collect();
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let mistakes = nearest_mistakes(&classify, &toy.images, &toy.labels, norm, 400, &keys);
            let moves = nearest_moves(&encode, &toy.images, 0.3, norm, 400, &keys);
            assert!(moves.iter().all(|found| found.distance.is_some_and(|d| d > 0.0)), "{moves:?}");
            assert!(mistakes.iter().all(|found| found.forward + found.backward <= 400));
            let mut certified = 0;
            for i in 0..6 {
                let image = toy.images.slice(0, i, 1);
                let (label, key) = (&toy.labels[i..=i], &keys[i..=i]);
                assert_eq!(nearest_mistakes(&classify, &image, label, norm, 400, key)[0], mistakes[i]);
                assert_eq!(nearest_moves(&encode, &image, 0.3, norm, 400, key)[0], moves[i]);
                let class = |c: &Certificate, at: &CertifyConfig| keeps_class(&toy.head, label[0], c, at);
                let still = |c: &Certificate, _: &CertifyConfig| Ok(c.radius() < 0.3);
                for (found, holds) in [(&mistakes[i], &class as &Holds<'_>), (&moves[i], &still)] {
                    let of = radius_interval(&network, &image, norm, found, 8, holds, NEVER);
                    let of = of.unwrap().unwrap();
                    assert_eq!(of.found, found.distance);
                    let radius = of.certified.unwrap();
                    assert!(of.found.is_none_or(|distance| radius <= distance), "{of:?}");
                    certified += usize::from(radius > 0.0);
                }
            }
            assert!(certified >= 6, "{norm}: {certified} of 12 are certified");
        }
    }

    #[test]
    fn a_norm_without_certificates_has_no_certified_radius() {
        let toy = Toy::new(5, 2, 4, 3, 1);
        let network = Network::trace(&|x| toy.encode(x), &toy.images.slice(0, 0, 1)).unwrap();
        let found = FoundDistance { distance: Some(2.0), forward: 1, backward: 0 };
        let image = toy.images.slice(0, 0, 1);
        let of = radius_interval(&network, &image, Norm::L0, &found, 4, &|_, _| Ok(true), NEVER);
        assert_eq!(of.unwrap().unwrap(), RadiusInterval { certified: None, found: Some(2.0) });
    }

    /// A certificate that says too much is noticed.
    #[test]
    fn a_certified_ball_with_a_mistake_is_an_error() {
        let toy = Toy::new(5, 2, 4, 3, 1);
        let network = Network::trace(&|x| toy.encode(x), &toy.images.slice(0, 0, 1)).unwrap();
        let found = FoundDistance { distance: Some(0.1), forward: 1, backward: 0 };
        let image = toy.images.slice(0, 0, 1);
        let of = radius_interval(&network, &image, Norm::Linf, &found, 4, &|_, _| Ok(true), NEVER);
        assert!(matches!(of, Err(BoundError::CertificateViolated { images: 1, .. })));
    }
}
