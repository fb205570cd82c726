//! Robust accuracy: encoder and head attacked together, at one radius or along a curve of radii.

use crate::features::rows;
use crate::head::DeviceHead;
use crate::robust_result::{Example, NO_CLASS, RobustAccuracy, SampleOutcome};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{LabelLoss, Pgd, Start, Threat, attack_classifier};
use tarrl_bound::LinearHead;
use tarrl_tensor::{Key, Tensor};

/// Settings of [`robust_accuracy`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RobustConfig {
    /// The ball around each image.
    pub threat: Threat,
    /// The attack. A sample leaves it at its first success, whatever `early_stop` says, and the clean
    /// image is judged apart.
    pub pgd: Pgd,
    /// The loss that it maximizes.
    pub loss: LabelLoss,
    /// Images in memory at a time; changes no result.
    pub batch: usize,
    /// The first images of the sample whose attacked form is returned.
    pub keep: usize,
}

impl Default for RobustConfig {
    /// PGD-20 with two restarts on the cross-entropy, within 8/255 in the l-infinity norm.
    fn default() -> Self {
        let pgd = Pgd { steps: 20, restarts: 2, ..Pgd::default() };
        RobustConfig { threat: Threat::default(), pgd, loss: LabelLoss::CrossEntropy, batch: 256, keep: 8 }
    }
}

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
    let go_on = &mut |_: &[RobustAccuracy]| true;
    continue_robust_curve(encoder, head, images, labels, epsilons, config, key, Vec::new(), go_on)
        .expect("nothing ends it early")
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
    epsilons: &[f64],
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
    assert!(
        config.threat.epsilon > 0.0 || epsilons.iter().all(|&e| e == 0.0),
        "robust accuracy: steps for radius {} cannot be scaled to {epsilons:?}",
        config.threat.epsilon
    );
    let mut radii = epsilons.to_vec();
    radii.sort_by(f64::total_cmp);
    let head = DeviceHead::new(head, images.device(), images.dtype());
    let logits = |x: &Tensor| head.forward(&encoder(x));
    if curve.is_empty() {
        let level = |&epsilon: &f64| RobustAccuracy { epsilon, samples: Vec::new(), examples: Vec::new() };
        curve = radii.iter().map(level).collect();
    }
    let done = curve.first().map_or(0, |level| level.samples.len());
    assert!(
        curve.iter().map(|level| level.epsilon).eq(radii.iter().copied())
            && curve.iter().all(|level| level.samples.len() == done)
            && done <= n,
        "robust accuracy: a curve of {done} images at other radii cannot be continued with {n} images at {epsilons:?}"
    );
    for start in (done..n).step_by(config.batch) {
        let len = config.batch.min(n - start);
        let mut attack = GrowingAttack::new(
            &logits,
            images.slice(0, start, len),
            &labels[start..start + len],
            config,
            start,
        );
        for robust in &mut curve {
            if robust.epsilon > 0.0 {
                attack.advance(robust.epsilon, key);
            }
            robust.samples.extend(&attack.samples);
            let wanted = config.keep.saturating_sub(start).min(len);
            robust.examples.extend(attack.examples(wanted));
        }
        if start + len < n && !go_on(&curve) {
            return None;
        }
    }
    Some(curve)
}

/// A batch of images that is attacked at growing radii.
struct GrowingAttack<'a> {
    logits: &'a dyn Fn(&Tensor) -> Tensor,
    config: &'a RobustConfig,
    /// Position of the first image in the whole sample.
    offset: usize,
    clean: Tensor,
    labels: &'a [u32],
    predictions: Vec<u32>,
    /// The point of least margin of each image.
    points: Tensor,
    samples: Vec<SampleOutcome>,
}

impl<'a> GrowingAttack<'a> {
    fn new(
        logits: &'a dyn Fn(&Tensor) -> Tensor,
        clean: Tensor,
        labels: &'a [u32],
        config: &'a RobustConfig,
        offset: usize,
    ) -> GrowingAttack<'a> {
        // An attack without steps is the clean evaluation, by the same rule for ties and NaN.
        let still = Pgd { steps: 0, restarts: 1, start: Start::Clean, ..config.pgd };
        let point = Threat { epsilon: 0.0, ..config.threat };
        let keys = vec![Key::new(0); labels.len()];
        let seen = attack_classifier(logits, &clean, labels, config.loss, &point, &still, &keys);
        let samples = (0..labels.len())
            .map(|i| SampleOutcome {
                wrong: seen.success[i],
                broken: seen.success[i],
                margin: seen.margin[i],
                loss: seen.loss[i],
                forward: seen.forward[i],
                backward: seen.backward[i],
            })
            .collect();
        let predictions = if offset < config.keep { predictions(logits, &clean) } else { Vec::new() };
        GrowingAttack { logits, config, offset, points: clean.clone(), clean, labels, predictions, samples }
    }

    /// Attacks the survivors at radius `epsilon`.
    fn advance(&mut self, epsilon: f64, key: Key) {
        let alive: Vec<usize> = (0..self.samples.len()).filter(|&i| !self.samples[i].broken).collect();
        if alive.is_empty() {
            return;
        }
        let config = self.config;
        let threat = Threat { epsilon, ..config.threat };
        let step_size = config.pgd.step_size * (epsilon / config.threat.epsilon);
        let pgd = Pgd { step_size, early_stop: true, include_clean: false, ..config.pgd };
        let x = rows(&self.clean, &alive);
        let labels: Vec<u32> = alive.iter().map(|&i| self.labels[i]).collect();
        let sample_key = |&i: &usize| key.fold(self.offset + i).fold(epsilon.to_bits());
        let keys: Vec<Key> = alive.iter().map(sample_key).collect();
        let found = attack_classifier(self.logits, &x, &labels, config.loss, &threat, &pgd, &keys);
        check_inside(&x, &found.adversarial, &threat);
        let mut nearer = Vec::new();
        for (position, &i) in alive.iter().enumerate() {
            let sample = &mut self.samples[i];
            if found.success[position] || found.margin[position] < sample.margin {
                nearer.push((i, position));
            }
            sample.broken = found.success[position];
            sample.margin = sample.margin.min(found.margin[position]);
            sample.loss = sample.loss.max(found.loss[position]);
            sample.forward += found.forward[position];
            sample.backward += found.backward[position];
        }
        let n = self.samples.len();
        let mut from: Vec<usize> = (0..n).collect();
        nearer.iter().for_each(|&(i, position)| from[i] = n + position);
        self.points = rows(&Tensor::concat(&[&self.points, &found.adversarial], 0), &from);
    }

    fn examples(&self, wanted: usize) -> Vec<Example> {
        if wanted == 0 {
            return Vec::new();
        }
        let points = self.points.slice(0, 0, wanted);
        let attacked_prediction = predictions(self.logits, &points);
        let &[_, h, w, c] = &self.clean.shape()[..] else {
            panic!("examples are images (n, h, w, c), not {:?}", self.clean.shape())
        };
        let pixels =
            |x: &Tensor, i: usize| x.slice(0, i, 1).array().to_f64().iter().map(|&v| v as f32).collect();
        (0..wanted)
            .map(|i| Example {
                index: self.offset + i,
                label: self.labels[i],
                prediction: self.predictions[i],
                attacked_prediction: attacked_prediction[i],
                shape: [h, w, c],
                clean: pixels(&self.clean, i),
                attacked: pixels(&points, i),
            })
            .collect()
    }
}

/// The class of each image, [`NO_CLASS`] where a logit is not finite.
fn predictions(logits: &dyn Fn(&Tensor) -> Tensor, x: &Tensor) -> Vec<u32> {
    let z = logits(x).detach();
    let of = |(class, row): (u32, &[f64])| if row.iter().all(|v| v.is_finite()) { class } else { NO_CLASS };
    z.argmax(1).to_vec::<u32>().into_iter().zip(z.array().to_f64().chunks(z.shape()[1])).map(of).collect()
}

/// Checks that attacked images lie in the ball, whatever the attack says of itself: an accuracy at the wrong ε is
/// worth nothing.
#[track_caller]
pub(crate) fn check_inside(x: &Tensor, attacked: &Tensor, threat: &Threat) {
    let (x, u) = (x.array().to_f64(), attacked.array().to_f64());
    let width = x.len() / attacked.shape()[0].max(1);
    let (low, high) = threat.bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let reach = threat.epsilon * (1.0 + 1e-6) + 1e-6;
    for (x, u) in x.chunks(width).zip(u.chunks(width)) {
        let size = threat.norm.length(x.iter().zip(u).map(|(a, b)| a - b));
        let boxed = u.iter().all(|&v| (low..=high).contains(&v));
        assert!(size <= reach && boxed, "an attacked image left the ball: distance {size}, {threat:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;
    use proptest::prelude::*;
    use tarrl_attacks::Norm;

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
    }
}
