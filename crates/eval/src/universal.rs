//! Universal perturbations: one change of all images that moves representations the farthest, made without labels.

use crate::features::rows;
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::{Key, Tensor, value_and_grad};

/// Settings of [`universal_perturbation`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UniversalConfig {
    /// Steps, each on the gradient of one batch.
    pub steps: usize,
    /// Images of a batch.
    pub batch: usize,
    /// Independent ascents; the one that moves a batch the farthest counts.
    pub restarts: usize,
}

impl Default for UniversalConfig {
    /// Two ascents of fifty steps of two hundred images.
    fn default() -> Self {
        UniversalConfig { steps: 50, batch: 200, restarts: 2 }
    }
}

/// One perturbation `δ (1, h, w, c)` with `‖δ‖∞ ≤ ε` that makes the mean displacement
/// `E ‖f(clip(x + δ)) − f(x)‖` over `images (n, h, w, c)` large (Moosavi-Dezfooli et al. 2017, without their labels).
///
/// Ascent of signed steps from a random point of the ball; step `t` of `T` has length `5 ε / T · (1 − t / T)`, so that all
/// together reach 2.5 times as far as the ball. Batches are drawn without replacement until all images were seen.
///
/// # Panics
/// If there are no images, steps or images of a batch, or the ball is not one of the l∞ norm.
#[track_caller]
pub fn universal_perturbation(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    threat: &Threat,
    config: &UniversalConfig,
    key: Key,
) -> Tensor {
    let &[n, h, w, c] = &images.shape()[..] else {
        panic!("universal_perturbation: images {:?} are not (n, h, w, c)", images.shape())
    };
    let UniversalConfig { steps, batch, restarts } = *config;
    let positive = n > 0 && steps > 0 && batch > 0 && restarts > 0;
    assert!(positive, "universal_perturbation: {n} images, {restarts} ascents of {steps} steps of {batch}");
    assert!(threat.norm == Norm::Linf, "universal_perturbation: a ball of {:?}, not l∞", threat.norm);
    let mut judged: Vec<usize> = (0..n).collect();
    key.fold("judged").stream().shuffle(&mut judged);
    let judged = rows(images, &judged[..batch.min(n)]);
    let still = encoder(&judged).detach();
    let ascents = (0..restarts).map(|restart| {
        let delta = ascend(encoder, images, [h, w, c], threat, config, key.fold(restart));
        let moved = &encoder(&perturbed(&judged, &delta, threat)).detach() - &still;
        (displacement(&moved).mean_all().item(), delta)
    });
    let best = ascents.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.expect("at least one ascent").1
}

/// One ascent from a random point of the ball.
fn ascend(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    [h, w, c]: [usize; 3],
    threat: &Threat,
    config: &UniversalConfig,
    key: Key,
) -> Tensor {
    let (epsilon, n) = (threat.epsilon, images.shape()[0]);
    let UniversalConfig { steps, batch, .. } = *config;
    let mut start = key.fold("start").stream();
    let point: Vec<f64> = (0..h * w * c).map(|_| start.uniform(-epsilon, epsilon)).collect();
    let mut delta = Tensor::new(images.device(), [1, h, w, c], &point).cast(images.dtype());
    let (mut order, mut epoch) = (Vec::new(), 0u64);
    for step in 0..steps {
        if order.is_empty() {
            order = (0..n).collect();
            key.fold("epoch").fold(epoch).stream().shuffle(&mut order);
            epoch += 1;
        }
        let x = rows(images, &order.split_off(order.len().saturating_sub(batch)));
        let z = encoder(&x).detach();
        let (_, gradient) = value_and_grad(&delta, |delta| {
            displacement(&(&encoder(&perturbed(&x, delta, threat)) - &z)).mean_all()
        });
        let left = 1.0 - step as f64 / steps as f64;
        let length = 5.0 * epsilon / steps as f64 * left;
        delta = (&delta + &gradient.sign().mul_scalar(length)).clamp(-epsilon, epsilon);
    }
    delta
}

/// `images (n, h, w, c)` moved by `delta (1, h, w, c)` and clipped to the range of the pixels.
#[track_caller]
pub fn perturbed(images: &Tensor, delta: &Tensor, threat: &Threat) -> Tensor {
    let moved = images + delta;
    threat.bounds.map_or(moved.clone(), |(low, high)| moved.clamp(low, high))
}

/// `(n)`: the lengths of rows `(n, d)`, with a gradient at zero.
fn displacement(rows: &Tensor) -> Tensor {
    rows.square().sum(1).add_scalar(1e-12).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;
    use proptest::prelude::*;

    /// For `f(x) = aᵀ x` and images that no clipping reaches, the displacement is `|aᵀ δ|`, at most `ε ‖a‖₁`.
    #[test]
    fn of_a_linear_encoder_it_is_the_sign_of_its_weights() {
        let toy = Toy::new(4, 30, 4, 2, 1);
        let a = toy.matrix(9, 1);
        let weight = Tensor::new(toy.images.device(), [9, 1], &a);
        let encoder = |x: &Tensor| x.reshape([x.shape()[0], 9]).matmul(&weight);
        let threat = Threat { bounds: None, ..Threat::linf(0.1) };
        let config = UniversalConfig { steps: 40, batch: 7, restarts: 1 };
        let delta =
            universal_perturbation(&encoder, &toy.images, &threat, &config, Key::new(1)).to_vec::<f32>();
        let reached: f64 = a.iter().zip(&delta).map(|(a, d)| f64::from(*a) * f64::from(*d)).sum();
        let most: f64 = 0.1 * a.iter().map(|a| f64::from(a.abs())).sum::<f64>();
        // Nine products in f32.
        assert!((reached.abs() - most).abs() <= 9.0 * f64::from(f32::EPSILON) * most, "{reached} {most}");
    }

    /// A mean of norms is convex where no ReLU changes sides and nothing is clipped, so that a corner is best: of all 2⁹ the
    /// ascents find one that is nearly so. The encoder is that of the toy, which has ReLUs; corners are evaluated on it.
    #[test]
    fn it_moves_representations_nearly_as_far_as_the_best_corner() {
        let toy = Toy::new(5, 40, 6, 3, 1);
        let encoder = |x: &Tensor| toy.encode(x);
        let threat = Threat { bounds: None, ..Threat::linf(0.1) };
        let config = UniversalConfig { steps: 60, batch: 40, restarts: 8 };
        let delta = universal_perturbation(&encoder, &toy.images, &threat, &config, Key::new(2));
        let still = encoder(&toy.images);
        let mean = |delta: &Tensor| {
            displacement(&(&encoder(&perturbed(&toy.images, delta, &threat)) - &still)).mean_all().item()
        };
        let corner = |bits: usize| {
            let signs: Vec<f32> = (0..9).map(|i| if bits >> i & 1 == 1 { 0.1 } else { -0.1 }).collect();
            mean(&Tensor::new(toy.images.device(), [1, 3, 3, 1], &signs))
        };
        let corners: Vec<f64> = (0..512).map(corner).collect();
        let best = corners.iter().copied().fold(0.0, f64::max);
        let middle = corners.iter().sum::<f64>() / 512.0;
        let reached = mean(&delta);
        // Local optima remain: nine tenths of the way from the mean corner to the best.
        assert!(reached > best - 0.1 * (best - middle), "{reached}, best {best}, mean {middle}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn it_stays_in_the_ball_and_has_the_same_bits_for_any_number_of_threads(
            seed in 0u64..100, steps in 1usize..8, batch in 1usize..50,
        ) {
            let run = |threads| {
                let toy = Toy::new(seed, 20, 5, 2, threads);
                let config = UniversalConfig { steps, batch, restarts: 2 };
                let threat = Threat::linf(0.05);
                universal_perturbation(&|x| toy.encode(x), &toy.images, &threat, &config, Key::new(seed))
                    .to_vec::<f32>()
            };
            let delta = run(1);
            prop_assert!(delta.iter().all(|d| d.abs() <= 0.05));
            prop_assert_eq!(delta, run(3));
        }
    }
}
