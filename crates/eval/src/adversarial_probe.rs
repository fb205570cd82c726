//! Adversarial linear fitting: a linear head that is trained on attacked images, on a frozen encoder.

use crate::features::{encode, rows};
use crate::fit_error::{FitError, check_finite};
use crate::head::DeviceHead;
use crate::standardize::Standardizer;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use tarrl_attacks::{LabelLoss, Pgd, Start, Threat, attack_classifier};
use tarrl_bound::LinearHead;
use tarrl_tensor::{Array, DType, Key, Tensor, grad, math};

/// Settings of [`adversarial_probe`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdversarialProbeConfig {
    /// The ball around each image.
    pub threat: Threat,
    /// The attack of the training.
    pub attack: Pgd,
    /// Passes over the images.
    pub epochs: usize,
    /// Images of a step.
    pub batch: usize,
    /// The first learning rate, on standardized features; it falls to 0 along half a cosine.
    pub lr: f64,
    /// The share of a step that the next one repeats.
    pub momentum: f64,
    /// The weight of the squared norm of the head on standardized features; the bias has none.
    pub weight_decay: f64,
}

impl Default for AdversarialProbeConfig {
    /// PGD-10 within 8/255, 25 epochs of batches of 512, momentum 0.9 and weight decay 2e-4.
    fn default() -> Self {
        let threat = Threat::default();
        AdversarialProbeConfig {
            threat,
            attack: Pgd { include_clean: false, ..Pgd::usual(&threat, 10) },
            epochs: 25,
            batch: 512,
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 2e-4,
        }
    }
}

/// Trains a linear head on `images (n, h, w, c)` with `labels (n)`: each step attacks a batch with the head as it is and
/// descends the cross-entropy at the attacked images. The encoder is frozen and in inference mode.
///
/// This is the protocol "adversarial linear finetuning" without augmentation. The head starts at zero and is trained on
/// features that are standardized by the clean images, so that one learning rate suits every encoder; the standardization
/// is folded into the head that is returned.
///
/// # Errors
/// If there are fewer than two classes, or a representation is not finite.
///
/// # Panics
/// If the shapes do not fit, a label is not below `classes`, or there are no images of a batch.
#[track_caller]
pub fn adversarial_probe(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    labels: &[u32],
    classes: usize,
    config: &AdversarialProbeConfig,
    key: Key,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<LinearHead, FitError> {
    let n = labels.len();
    assert!(images.shape()[0] == n && n > 0, "adversarial_probe: images {:?}, {n} labels", images.shape());
    assert!(
        labels.iter().all(|&y| (y as usize) < classes),
        "adversarial_probe: a label above {classes} classes"
    );
    let &AdversarialProbeConfig { batch, lr, momentum, weight_decay, .. } = config;
    assert!(batch > 0, "adversarial_probe: a batch needs at least one image");
    if classes < 2 {
        return Err(FitError::Classes(classes));
    }
    let parts: Vec<Tensor> = (0..n)
        .step_by(batch)
        .map(|start| encode(encoder, &images.slice(0, start, batch.min(n - start))))
        .collect();
    let clean = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0);
    check_finite(&clean)?;
    let standard = Standardizer::of(&clean);
    let d = clean.shape()[1];
    let mut theta = vec![0.0; (d + 1) * classes];
    let mut velocity = vec![0.0; theta.len()];
    let steps = config.epochs * n.div_ceil(batch);
    let mut step = 0;
    for epoch in 0..config.epochs {
        let mut order: Vec<usize> = (0..n).collect();
        key.fold("order").fold(epoch).stream().shuffle(&mut order);
        for part in order.chunks(batch) {
            progress(step, steps);
            let y: Vec<u32> = part.iter().map(|&i| labels[i]).collect();
            let keys: Vec<Key> = part.iter().map(|&i| key.fold("attack").fold(epoch).fold(i)).collect();
            let (weight, bias) = standard.fold(&theta);
            let head = DeviceHead::from_rows(&weight, &bias, images.device(), images.dtype());
            let x = attacked(&|x| head.forward(&encoder(x)), &rows(images, part), &y, config, &keys);
            let z = encode(encoder, &x);
            check_finite(&z)?;
            let gradient = gradient(&standard.design(&z), &theta, &y, classes);
            let rate = lr * 0.5 * (1.0 + math::cos(PI * step as f64 / steps as f64));
            for (i, g) in gradient.iter().enumerate() {
                let decay = if i < d * classes { weight_decay * theta[i] } else { 0.0 };
                velocity[i] = momentum * velocity[i] + g + decay;
                theta[i] -= rate * velocity[i];
            }
            step += 1;
        }
    }
    let (weight, bias) = standard.fold(&theta);
    Ok(LinearHead::new(classes, d, weight, bias))
}

/// The images where the attack ended: those of the largest loss.
fn attacked(
    logits: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    labels: &[u32],
    config: &AdversarialProbeConfig,
    keys: &[Key],
) -> Tensor {
    if config.attack.steps == 0 || config.threat.epsilon == 0.0 {
        return x.clone();
    }
    let attack = Pgd { early_stop: false, start: Start::Random, ..config.attack };
    attack_classifier(logits, x, labels, LabelLoss::CrossEntropy, &config.threat, &attack, keys).worst
}

/// The gradient of the mean cross-entropy in the coefficients `theta ((d + 1) · k)` on a design `(b, d + 1)`.
fn gradient(design: &Tensor, theta: &[f64], labels: &[u32], classes: usize) -> Vec<f64> {
    let device = design.device();
    let coefficients = Tensor::new(device, [theta.len() / classes, classes], theta);
    let logits = design.matmul(&coefficients).requires_grad();
    let loss = logits.cross_entropy(&Array::new(device, [labels.len()], labels)).mean_all();
    design.t().matmul(&grad(&loss, &[&logits]).remove(0)).cast(DType::F64).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;
    use crate::{ProbeConfig, linear_probe};

    fn config(epsilon: f64) -> AdversarialProbeConfig {
        let threat = Threat::linf(epsilon);
        let attack = Pgd { include_clean: false, ..Pgd::usual(&Threat::linf(epsilon.max(0.1)), 5) };
        AdversarialProbeConfig {
            threat,
            attack,
            epochs: 60,
            batch: 40,
            weight_decay: 0.1,
            lr: 0.2,
            ..Default::default()
        }
    }

    /// Without an attack the loss is that of the probe, whose minimum is unique.
    #[test]
    fn at_radius_zero_it_is_the_probe() {
        let toy = Toy::new(3, 120, 5, 3, 1);
        let encoder = |x: &Tensor| toy.encode(x);
        let settings = AdversarialProbeConfig { batch: 120, epochs: 400, ..config(0.0) };
        let found =
            adversarial_probe(&encoder, &toy.images, &toy.labels, 3, &settings, Key::new(1), &mut |_, _| {})
                .unwrap();
        let probe = ProbeConfig { l2: vec![0.1], ..ProbeConfig::default() };
        let want = linear_probe(&encoder(&toy.images), &toy.labels, 3, &probe, Key::new(0)).unwrap().head;
        let size = want.weight().iter().map(|w| w.abs()).fold(0.0, f64::max);
        // Whole batches at a curvature of at least 0.1 in the weights: 400 steps of rate 0.2 / (1 − 0.9) leave e⁻⁴⁰ of
        // the distance from the start; the probe stops at gradients of 1e-5, and a cosine of rates halves the count.
        for (a, b) in found.weight().iter().zip(want.weight()) {
            assert!((a - b).abs() < 1e-3 * size, "{a} {b}");
        }
    }

    /// With a regularization that hardly weighs, each is near the minimum of its own loss, and the attacked one is ours.
    #[test]
    fn its_loss_under_attack_is_below_that_of_the_probe() {
        let toy = Toy::new(9, 140, 6, 2, 1);
        let encoder = |x: &Tensor| toy.encode(x);
        let threat = Threat::linf(0.1);
        let settings = AdversarialProbeConfig { weight_decay: 1e-3, ..config(0.1) };
        let ours =
            adversarial_probe(&encoder, &toy.images, &toy.labels, 2, &settings, Key::new(1), &mut |_, _| {})
                .unwrap();
        let probe = ProbeConfig { l2: vec![1e-3], ..ProbeConfig::default() };
        let theirs = linear_probe(&encoder(&toy.images), &toy.labels, 2, &probe, Key::new(0)).unwrap().head;
        let attacked = |head: &LinearHead| {
            let head = DeviceHead::new(head, toy.images.device(), toy.images.dtype());
            let keys: Vec<Key> = (0..140).map(|i| Key::new(4).fold(i as u64)).collect();
            let logits = |x: &Tensor| head.forward(&encoder(x));
            let pgd = Pgd::usual(&threat, 20);
            let loss = LabelLoss::CrossEntropy;
            let found = attack_classifier(&logits, &toy.images, &toy.labels, loss, &threat, &pgd, &keys);
            found.loss.iter().sum::<f64>() / 140.0
        };
        assert!(attacked(&ours) < attacked(&theirs), "{} {}", attacked(&ours), attacked(&theirs));
    }

    #[test]
    fn threads_change_no_bit() {
        let run = |threads| {
            let toy = Toy::new(5, 50, 4, 3, threads);
            let settings = AdversarialProbeConfig { epochs: 2, batch: 16, ..config(0.1) };
            adversarial_probe(
                &|x| toy.encode(x),
                &toy.images,
                &toy.labels,
                3,
                &settings,
                Key::new(2),
                &mut |_, _| {},
            )
            .unwrap()
        };
        let (one, three) = (run(1), run(3));
        assert!(one.weight() == three.weight() && one.bias() == three.bias());
    }

    #[test]
    fn one_class_is_no_task() {
        let toy = Toy::new(5, 5, 4, 2, 1);
        let found = adversarial_probe(
            &|x| toy.encode(x),
            &toy.images,
            &[0; 5],
            1,
            &config(0.1),
            Key::new(2),
            &mut |_, _| {},
        );
        assert_eq!(found.unwrap_err(), FitError::Classes(1));
    }
}
