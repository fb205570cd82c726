//! A batch of images under attack at several radii, in any order.

use crate::features::rows;
use crate::robust_config::RobustConfig;
use crate::robust_result::{Example, NO_CLASS, SampleOutcome};
use tarrl_attacks::{ClassifierOutcome, Pgd, Start, Threat, attack_classifier};
use tarrl_tensor::{Key, Tensor};

/// Images, and what the attacks on them have found so far.
pub(crate) struct BatchAttack<'a> {
    logits: &'a dyn Fn(&Tensor) -> Tensor,
    config: &'a RobustConfig,
    /// Position of the first image in the whole sample.
    offset: usize,
    clean: Tensor,
    labels: &'a [u32],
    predictions: Vec<u32>,
    /// The clean evaluation of each image.
    before: Vec<SampleOutcome>,
    attempts: Vec<Attempt>,
}

/// An attack at one radius on some of the images.
struct Attempt {
    epsilon: f64,
    /// The image at each row of `points`.
    images: Vec<usize>,
    /// The outcome at each row: this attack alone.
    outcomes: Vec<SampleOutcome>,
    points: Tensor,
}

impl<'a> BatchAttack<'a> {
    pub(crate) fn new(
        logits: &'a dyn Fn(&Tensor) -> Tensor,
        clean: Tensor,
        labels: &'a [u32],
        config: &'a RobustConfig,
        offset: usize,
    ) -> BatchAttack<'a> {
        // An attack without steps is the clean evaluation, by the same rule for ties and NaN.
        let still = Pgd { steps: 0, restarts: 1, start: Start::Clean, ..config.pgd };
        let point = Threat { epsilon: 0.0, ..config.threat };
        let keys = vec![Key::new(0); labels.len()];
        let seen = attack_classifier(logits, &clean, labels, config.loss, &point, &still, &keys);
        let of = |i| SampleOutcome { wrong: seen.success[i], ..outcome(&seen, i) };
        let before = (0..labels.len()).map(of).collect();
        let predictions = if offset < config.keep { predictions(logits, &clean) } else { Vec::new() };
        BatchAttack { logits, config, offset, clean, labels, predictions, before, attempts: Vec::new() }
    }

    /// Attacks at radius `epsilon` the images whose outcome there is open.
    pub(crate) fn advance(&mut self, epsilon: f64, key: Key) {
        let images = self.open(epsilon);
        if images.is_empty() {
            return;
        }
        let config = self.config;
        let threat = Threat { epsilon, ..config.threat };
        let step_size = config.pgd.step_size * (epsilon / config.threat.epsilon);
        let pgd = Pgd { step_size, early_stop: true, include_clean: false, ..config.pgd };
        let x = rows(&self.clean, &images);
        let labels: Vec<u32> = images.iter().map(|&i| self.labels[i]).collect();
        let sample_key = |&i: &usize| key.fold(self.offset + i).fold(epsilon.to_bits());
        let keys: Vec<Key> = images.iter().map(sample_key).collect();
        let found = attack_classifier(self.logits, &x, &labels, config.loss, &threat, &pgd, &keys);
        check_inside(&x, &found.adversarial, &threat);
        let outcomes = (0..images.len()).map(|row| outcome(&found, row)).collect();
        self.attempts.push(Attempt { epsilon, images, outcomes, points: found.adversarial });
    }

    /// Images that are neither broken in a smaller ball nor withstood an attack in a larger one.
    fn open(&self, epsilon: f64) -> Vec<usize> {
        let mut open: Vec<bool> = self.before.iter().map(|sample| !sample.broken).collect();
        for attempt in &self.attempts {
            for (&i, outcome) in attempt.images.iter().zip(&attempt.outcomes) {
                let decides =
                    if outcome.broken { attempt.epsilon <= epsilon } else { attempt.epsilon >= epsilon };
                open[i] &= !decides;
            }
        }
        (0..open.len()).filter(|&i| open[i]).collect()
    }

    /// The outcome of each image in the ball of radius `epsilon`: of all attempts that stayed in it.
    pub(crate) fn samples(&self, epsilon: f64) -> Vec<SampleOutcome> {
        let mut samples = self.before.clone();
        for (attempt, row, i) in self.rows(epsilon) {
            let (sample, outcome) = (&mut samples[i], &attempt.outcomes[row]);
            sample.broken |= outcome.broken;
            sample.margin = sample.margin.min(outcome.margin);
            sample.loss = sample.loss.max(outcome.loss);
            sample.forward += outcome.forward;
            sample.backward += outcome.backward;
        }
        samples
    }

    /// The first `wanted` images at their point of least margin in the ball of radius `epsilon`.
    pub(crate) fn examples(&self, epsilon: f64, wanted: usize) -> Vec<Example> {
        if wanted == 0 {
            return Vec::new();
        }
        let mut points: Vec<Tensor> = (0..wanted).map(|i| self.clean.slice(0, i, 1)).collect();
        let mut best = self.before.clone();
        for (attempt, row, i) in self.rows(epsilon).filter(|&(_, _, i)| i < wanted) {
            let outcome = &attempt.outcomes[row];
            if (outcome.broken && !best[i].broken) || outcome.margin < best[i].margin {
                best[i] = *outcome;
                points[i] = attempt.points.slice(0, row, 1);
            }
        }
        let points = Tensor::concat(&points.iter().collect::<Vec<_>>(), 0);
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

    /// Attempts within radius `epsilon`: each with a row and its image.
    fn rows(&self, epsilon: f64) -> impl Iterator<Item = (&Attempt, usize, usize)> {
        let inside = self.attempts.iter().filter(move |attempt| attempt.epsilon <= epsilon);
        inside.flat_map(|attempt| attempt.images.iter().enumerate().map(move |(row, &i)| (attempt, row, i)))
    }
}

/// What one attack found for the image of a row that it did not have to classify before.
fn outcome(found: &ClassifierOutcome, row: usize) -> SampleOutcome {
    SampleOutcome {
        wrong: false,
        broken: found.success[row],
        margin: found.margin[row],
        loss: found.loss[row],
        forward: found.forward[row],
        backward: found.backward[row],
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
