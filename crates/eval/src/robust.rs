//! Robust accuracy: encoder and head attacked together, at one radius or along a curve of radii.

use crate::head::DeviceHead;
use crate::robust_batch::BatchAttack;
use crate::robust_config::RobustConfig;
use crate::robust_result::RobustAccuracy;
use tarrl_bound::LinearHead;
use tarrl_tensor::{Key, Tensor};

/// Attacks `images (n, h, w, c)`, pixels in [0, 1], at the radius of `config.threat`.
///
/// `encoder` is in inference mode and depends on no other row of the batch; gradients go through
/// it and the head together. The randomness of image `i` is `key.fold(i)`, so that results depend neither
/// on the batch size nor on the other images.
///
/// A point with a logit that is NaN or infinite counts as misclassified.
///
/// # Panics
/// If the shapes do not fit, a label is out of range, or the attack leaves the ball.
#[track_caller]
pub fn robust_accuracy(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    head: &LinearHead,
    images: &Tensor,
    labels: &[u32],
    config: &RobustConfig,
    key: Key,
) -> RobustAccuracy {
    robust_curve(encoder, head, images, labels, &[config.threat.epsilon], config, key).remove(0)
}

/// As [`robust_accuracy`] at several radii, smallest first. The step that `config` states for its own
/// radius is scaled with the radius.
///
/// A ball contains every smaller ball around the same image, so a point that breaks it at a small
/// radius breaks it at all larger ones: only survivors are attacked again. The curve therefore falls
/// by construction, not by luck, and passes accumulate along it. At radius 0 it is the clean accuracy.
///
/// # Panics
/// As [`robust_accuracy`], and if the radius of `config` is zero and another is asked for.
#[track_caller]
pub fn robust_curve(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    head: &LinearHead,
    images: &Tensor,
    labels: &[u32],
    epsilons: &[f64],
    config: &RobustConfig,
    key: Key,
) -> Vec<RobustAccuracy> {
    let radii = CurveRadii { full: epsilons.to_vec(), between: Vec::new() };
    let go_on = &mut |_: &[RobustAccuracy]| true;
    continue_robust_curve(encoder, head, images, labels, &radii, config, key, Vec::new(), go_on)
        .expect("nothing ends it early")
}

/// The radii of a curve, each in one of two lists.
///
/// What happens to an image at a radius follows from another radius in two cases: a point that broke it in a smaller ball lies
/// in this one too, and an attack that failed in a larger ball is taken to fail in this one. The first is a fact, the second
/// is not: an attack in the smaller ball might find what the one in the larger ball missed.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveRadii {
    /// Radii at which every image that no smaller one of them broke is attacked.
    pub full: Vec<f64>,
    /// Radii that fill the curve: only images that no smaller ball is known to break and that withstood no larger one are
    /// attacked, which takes half of the passes or less.
    pub between: Vec<f64>,
}

impl CurveRadii {
    /// All radii, smallest first, each once.
    pub fn rising(&self) -> Vec<f64> {
        let mut radii = [&self.full[..], &self.between].concat();
        radii.sort_by(f64::total_cmp);
        radii.dedup();
        radii
    }

    /// All radii in the order of the attacks: the full ones rise, and those between fall, because an attack that succeeds is
    /// short and one that fails is long.
    fn order(&self) -> Vec<f64> {
        let mut full = self.full.clone();
        full.sort_by(f64::total_cmp);
        full.dedup();
        let between = self.rising().into_iter().rev().filter(|radius| !full.contains(radius));
        full.iter().copied().chain(between).collect()
    }
}

/// As [`robust_curve`], from the first image that `curve` lacks, which is empty or what an earlier call gave to `go_on`.
/// `go_on` is told the curve so far after each batch of images but the last; if it returns false, the attack ends there
/// and the result is `None`. The batches do not change the result, nor does where it was interrupted.
///
/// # Panics
/// As [`robust_curve`], and if `curve` is of other radii or of more images.
#[track_caller]
#[allow(clippy::too_many_arguments, reason = "those of `robust_curve` and the two that it adds")]
pub fn continue_robust_curve(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    head: &LinearHead,
    images: &Tensor,
    labels: &[u32],
    radii: &CurveRadii,
    config: &RobustConfig,
    key: Key,
    mut curve: Vec<RobustAccuracy>,
    go_on: &mut dyn FnMut(&[RobustAccuracy]) -> bool,
) -> Option<Vec<RobustAccuracy>> {
    let n = images.shape()[0];
    assert!(
        n == labels.len() && n > 0,
        "robust accuracy: images {:?}, {} labels",
        images.shape(),
        labels.len()
    );
    assert!(config.batch > 0, "robust accuracy: a batch needs at least one image");
    let rising = radii.rising();
    assert!(
        config.threat.epsilon > 0.0 || rising.iter().all(|&e| e == 0.0),
        "robust accuracy: steps for radius {} cannot be scaled to {rising:?}",
        config.threat.epsilon
    );
    let head = DeviceHead::new(head, images.device(), images.dtype());
    let logits = |x: &Tensor| head.forward(&encoder(x));
    if curve.is_empty() {
        let level = |&epsilon: &f64| RobustAccuracy { epsilon, samples: Vec::new(), examples: Vec::new() };
        curve = rising.iter().map(level).collect();
    }
    let done = curve.first().map_or(0, |level| level.samples.len());
    assert!(
        curve.iter().map(|level| level.epsilon).eq(rising.iter().copied())
            && curve.iter().all(|level| level.samples.len() == done)
            && done <= n,
        "robust accuracy: a curve of {done} images at other radii cannot be continued with {n} images at {rising:?}"
    );
    for start in (done..n).step_by(config.batch) {
        let len = config.batch.min(n - start);
        let mut attack = BatchAttack::new(
            &logits,
            images.slice(0, start, len),
            &labels[start..start + len],
            config,
            start,
        );
        for epsilon in radii.order().into_iter().filter(|&epsilon| epsilon > 0.0) {
            attack.advance(epsilon, key);
        }
        for level in &mut curve {
            level.samples.extend(attack.samples(level.epsilon));
            let wanted = config.keep.saturating_sub(start).min(len);
            level.examples.extend(attack.examples(level.epsilon, wanted));
        }
        if start + len < n && !go_on(&curve) {
            return None;
        }
    }
    Some(curve)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::robust_batch::check_inside;
    use crate::robust_result::{Example, NO_CLASS};
    use crate::toy::Toy;
    use proptest::prelude::*;
    use tarrl_attacks::{Norm, Pgd, Threat};

    fn config(epsilon: f64) -> RobustConfig {
        let pgd = Pgd { steps: 8, step_size: epsilon / 3.0, restarts: 2, ..Pgd::default() };
        RobustConfig { threat: Threat::linf(epsilon), pgd, batch: 7, ..RobustConfig::default() }
    }

    /// It ends after every batch, of another size each time, and begins again from what it was told last.
    #[test]
    fn a_curve_in_slices_is_the_curve() {
        let toy = Toy::new(3, 23, 4, 3, 1);
        let radii = [0.1, 0.02];
        let encode = |x: &Tensor| toy.encode(x);
        let whole =
            robust_curve(&encode, &toy.head, &toy.images, &toy.labels, &radii, &config(0.1), Key::new(5));
        let mut curve = Vec::new();
        let mut calls = 0;
        let found = loop {
            let config = RobustConfig { batch: 3 + calls, ..config(0.1) };
            let mut told = Vec::new();
            let radii = CurveRadii { full: radii.to_vec(), between: Vec::new() };
            let found = continue_robust_curve(
                &encode,
                &toy.head,
                &toy.images,
                &toy.labels,
                &radii,
                &config,
                Key::new(5),
                curve,
                &mut |so_far| {
                    told = so_far.to_vec();
                    false
                },
            );
            calls += 1;
            match found {
                Some(found) => break found,
                None => curve = told,
            }
        };
        assert!(calls > 3, "{calls}");
        assert_eq!(found, whole);
    }

    /// For the identity encoder and two classes the worst point is known: the margin falls by
    /// `ε ‖w_1 − w_0‖₁`, or by `ε ‖w_1 − w_0‖₂` in the Euclidean ball.
    #[test]
    fn the_exact_robust_accuracy_of_a_linear_model() {
        let toy = Toy::new(3, 60, 9, 2, 1);
        let images = toy.images.reshape([60, 9]);
        for (norm, length) in [(Norm::Linf, 1), (Norm::L2, 2)] {
            let epsilon = 0.05;
            let w: Vec<f64> = (0..9).map(|j| toy.head.weight()[9 + j] - toy.head.weight()[j]).collect();
            let size = match length {
                1 => w.iter().map(|v| v.abs()).sum::<f64>(),
                _ => w.iter().map(|v| v * v).sum::<f64>().sqrt(),
            };
            let threat = Threat { bounds: None, ..Threat::new(norm, epsilon) };
            let config = RobustConfig { threat, keep: 0, ..config(epsilon) };
            let found = robust_accuracy(
                &|x: &Tensor| x.clone(),
                &toy.head,
                &images,
                &toy.labels,
                &config,
                Key::new(1),
            );
            let x = images.array().to_f64();
            for (i, sample) in found.samples.iter().enumerate() {
                let y = toy.labels[i] as usize;
                let margin = -toy.head.gaps(&x[i * 9..][..9], y)[1 - y];
                assert_eq!(sample.wrong, margin < 0.0);
                // Sums of nine f32 products of order one.
                if (margin - epsilon * size).abs() > 1e-5 {
                    assert_eq!(
                        sample.broken,
                        margin < epsilon * size,
                        "{norm:?} sample {i}: {sample:?} {margin}"
                    );
                }
            }
            assert!(found.robust_correct() < found.clean_correct() && found.robust_correct() > 0);
        }
    }

    #[test]
    fn radius_zero_is_the_clean_accuracy() {
        let toy = Toy::new(1, 30, 6, 3, 1);
        let curve = robust_curve(
            &|x| toy.encode(x),
            &toy.head,
            &toy.images,
            &toy.labels,
            &[0.0],
            &config(0.1),
            Key::new(2),
        );
        let z = toy.encode(&toy.images).array().to_f64();
        let right = (0..30).filter(|&i| {
            let gaps = toy.head.gaps(&z[i * 6..][..6], toy.labels[i] as usize);
            gaps.iter().all(|&m| m <= 0.0)
        });
        assert_eq!(curve[0].clean_correct(), right.count());
        assert_eq!(curve[0].robust_correct(), curve[0].clean_correct());
        assert!(curve[0].samples.iter().all(|s| (s.forward, s.backward) == (1, 0)));
    }

    #[test]
    fn examples_are_the_first_images() {
        let toy = Toy::new(4, 20, 6, 3, 1);
        let config = RobustConfig { keep: 9, ..config(0.2) };
        let found =
            robust_accuracy(&|x| toy.encode(x), &toy.head, &toy.images, &toy.labels, &config, Key::new(2));
        let pixels = toy.images.to_vec::<f32>();
        assert_eq!(found.examples.len(), 9);
        for (i, example) in found.examples.iter().enumerate() {
            let sample = &found.samples[i];
            assert_eq!((example.index, example.shape, example.label), (i, [3, 3, 1], toy.labels[i]));
            assert_eq!(example.clean, pixels[i * 9..][..9]);
            assert_eq!(sample.wrong, example.prediction != example.label);
            assert_eq!(sample.broken, example.attacked_prediction != example.label);
            assert_eq!(sample.wrong, example.attacked == example.clean);
        }
        assert!(found.samples[..9].iter().any(|s| s.broken && !s.wrong), "the attack broke nothing");
    }

    #[test]
    fn a_logit_that_is_not_finite_is_wrong_and_no_prediction() {
        let toy = Toy::new(4, 6, 6, 2, 1);
        // The first class has an infinite logit wherever the first feature is positive.
        let mut weight = vec![0.0; 12];
        weight[0] = 1e30;
        let head = LinearHead::new(2, 6, weight, vec![0.0, -1.0]);
        for large in [f32::MAX, f32::INFINITY, f32::NAN] {
            let encoder =
                |x: &Tensor| toy.encode(x).mul_scalar(0.0).add_scalar(1.0).mul_scalar(f64::from(large));
            let found = robust_accuracy(&encoder, &head, &toy.images, &[0; 6], &config(0.1), Key::new(2));
            assert_eq!((found.clean_correct(), found.robust_correct()), (0, 0), "{large}");
            let none = |e: &Example| e.prediction == NO_CLASS && e.attacked_prediction == NO_CLASS;
            assert!(found.examples.iter().all(none), "{large}: {:?}", found.examples[0].prediction);
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let run = |threads| {
            let toy = Toy::new(5, 40, 8, 3, threads);
            robust_accuracy(
                &|x| toy.encode(x),
                &toy.head,
                &toy.images,
                &toy.labels,
                &config(0.1),
                Key::new(3),
            )
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3));
    }

    #[test]
    #[should_panic(expected = "left the ball")]
    fn an_attacked_image_outside_the_ball_is_refused() {
        let x = Toy::new(0, 2, 2, 2, 1).images;
        check_inside(&x, &x.add_scalar(0.02).clamp(0.0, 1.0), &Threat::linf(0.01));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn curves_fall_and_batches_change_nothing(seed in 0u64..1000, batch in 1usize..30) {
            let toy = Toy::new(seed, 25, 6, 3, 1);
            let radii = [0.2, 0.0, 0.05, 0.1];
            let run = |batch| {
                let config = RobustConfig { batch, ..config(0.1) };
                robust_curve(&|x| toy.encode(x), &toy.head, &toy.images, &toy.labels, &radii, &config, Key::new(seed))
            };
            let curve = run(batch);
            for pair in curve.windows(2) {
                prop_assert!(pair[0].epsilon < pair[1].epsilon);
                prop_assert!(pair[0].robust_accuracy() >= pair[1].robust_accuracy());
                for (small, large) in pair[0].samples.iter().zip(&pair[1].samples) {
                    prop_assert!(small.wrong == large.wrong && small.broken <= large.broken);
                    prop_assert!(small.margin >= large.margin && small.loss <= large.loss);
                    // The broken cost nothing more.
                    prop_assert_eq!(small.broken, small == large);
                }
            }
            prop_assert_eq!(run(25), curve);
        }

        #[test]
        fn radii_between_change_nothing_at_the_others(seed in 0u64..1000, batch in 1usize..30) {
            let toy = Toy::new(seed, 25, 6, 3, 1);
            let run = |radii: &CurveRadii, batch| {
                let (encode, config) = (|x: &Tensor| toy.encode(x), RobustConfig { batch, ..config(0.1) });
                let (pixels, labels, go_on) = (&toy.images, &toy.labels, &mut |_: &[RobustAccuracy]| true);
                let key = Key::new(seed);
                continue_robust_curve(&encode, &toy.head, pixels, labels, radii, &config, key, Vec::new(), go_on).unwrap()
            };
            let full = CurveRadii { full: vec![0.1, 0.05], between: Vec::new() };
            let filled = CurveRadii { between: vec![0.02, 0.07, 0.05, 0.2, 0.15], ..full.clone() };
            let (few, many) = (run(&full, 25), run(&filled, 25));
            prop_assert_eq!(many.iter().map(|level| level.epsilon).collect::<Vec<_>>(), [0.02, 0.05, 0.07, 0.1, 0.15, 0.2]);
            let broken = |level: &RobustAccuracy| level.samples.iter().map(|s| s.broken).collect::<Vec<_>>();
            prop_assert_eq!((broken(&few[0]), broken(&few[1])), (broken(&many[1]), broken(&many[3])));
            for pair in many.windows(2) {
                for (small, large) in pair[0].samples.iter().zip(&pair[1].samples) {
                    prop_assert!(small.broken <= large.broken && small.margin >= large.margin && small.forward <= large.forward);
                }
            }
            // The clean evaluation, 0.05 and 0.1 are all that an image costs up to 0.1 if it withstands 0.1.
            for (alone, between) in few[1].samples.iter().zip(&many[3].samples) {
                prop_assert!(alone.broken || (alone.forward, alone.backward) == (between.forward, between.backward));
            }
            prop_assert_eq!(run(&filled, batch), many);
        }
    }
}
