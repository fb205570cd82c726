//! Any predictor on random representations: errors on draws, clean and attacked, beside the bound of Theorem C12.

use crate::bound_error::BoundError;
use crate::displacement::{Displacements, check_certified, row_distances};
use crate::predictors::{Predictor, PredictorKind, RepresentationNoise};
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Evaluation, Pgd, Query, Threat, ascend};
use tarrl_bound::confidence::{accuracy_lower, hoeffding_margin};
use tarrl_bound::stochastic::{DrawnErrors, drawn_bound, mean_drawn_bound};
use tarrl_certify::Network;
use tarrl_tensor::{Array, Key, Random, Tensor};

/// How many draws of each representation are taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrawConfig {
    /// Draws that choose: the place of a tangent, the worst of several attacked points.
    pub pilot: usize,
    /// Draws that count.
    pub draws: usize,
    /// Draws of each step of an attack.
    pub attack: usize,
    /// δ: the probability that one limit is wrong.
    pub delta: f64,
}

impl Default for DrawConfig {
    /// A hundred and a thousand draws, sixteen for each step of an attack, limits of 99.9 %.
    fn default() -> Self {
        DrawConfig { pilot: 100, draws: 1000, attack: 16, delta: 1e-3 }
    }
}

/// An encoder with noise on its representations, and predictors that were fitted to such draws.
#[derive(Clone, Copy)]
pub struct PredictorEvaluation<'a> {
    /// Images to representations, in inference mode.
    pub encoder: &'a dyn Fn(&Tensor) -> Tensor,
    /// The same in f64, as certificates know it.
    pub network: &'a Network,
    /// `(n, h, w, c)`
    pub images: &'a Tensor,
    /// `(n)`
    pub labels: &'a [u32],
    /// What labels draws.
    pub predictors: &'a [Predictor],
    /// The noise.
    pub noise: RepresentationNoise,
    /// Draws.
    pub config: DrawConfig,
    /// Steps of attacks through predictors that have a gradient.
    pub steps: usize,
    /// Image `i` draws its noise from what this key gives for `i`.
    pub key: Key,
}

/// A predictor without attack and at every radius.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PredictorErrors {
    /// Its kind.
    pub kind: PredictorKind,
    /// The share of draws that is misclassified, over all images.
    pub clean: f64,
    /// One for each radius, smallest first.
    pub levels: Vec<PredictorLevel>,
}

/// A predictor under attack within one radius.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct PredictorLevel {
    /// Radius ε of the ball, in pixels.
    pub epsilon: f64,
    /// The share of draws that is misclassified at the attacked points that are worst for this predictor.
    pub attacked: f64,
    /// The upper limit of that share at any points whose representations moved no farther than attacks moved them: verifies
    /// the theorem and certifies nothing.
    pub bound: f64,
    /// The upper limit of the share anywhere in the balls, by certified displacements; 1 claims nothing.
    pub certified: f64,
}

/// What was counted so far.
pub struct PredictorRun<'a> {
    evaluation: PredictorEvaluation<'a>,
    /// `(n, d)`: the means without attack.
    clean: Vec<f64>,
    /// The means at attacked points of all radii so far, each `(n, d)`, the clean ones first.
    points: Vec<Vec<f64>>,
    /// `(n)`: the largest displacement of these.
    reached: Vec<f64>,
    /// For each predictor the errors of the pilot draws and of those that count, image by image.
    counts: Vec<[Vec<usize>; 2]>,
    errors: Vec<PredictorErrors>,
}

impl<'a> PredictorEvaluation<'a> {
    /// Counts errors without attack.
    ///
    /// # Errors
    /// If a representation is not finite.
    ///
    /// # Panics
    /// If there is not one label for each image.
    #[track_caller]
    pub fn begin(self) -> Result<PredictorRun<'a>, BoundError> {
        assert_eq!(self.labels.len(), self.images.shape()[0], "one label for each image");
        let clean = self.network.forward(self.images).array().to_f64();
        finite(&clean, 0.0)?;
        let counts = |draws, name| self.count(&clean, draws, self.key.fold(name));
        let (pilot, counted) = (counts(self.config.pilot, "pilot")?, counts(self.config.draws, "clean")?);
        let n = self.labels.len();
        let share = |errors: &[usize]| errors.iter().sum::<usize>() as f64 / (n * self.config.draws) as f64;
        let errors = self.predictors.iter().zip(&counted);
        let errors = errors.map(|(predictor, errors)| PredictorErrors {
            kind: predictor.kind(),
            clean: share(errors),
            levels: Vec::new(),
        });
        let errors = errors.collect();
        let counts = pilot.into_iter().zip(counted).map(|(pilot, counted)| [pilot, counted]).collect();
        let (points, reached) = (vec![clean.clone()], vec![0.0; n]);
        Ok(PredictorRun { evaluation: self, clean, points, reached, counts, errors })
    }

    /// For each predictor the errors among `draws` draws of each mean in `means (n, d)`, image by image. All predictors see
    /// the same draws.
    fn count(&self, means: &[f64], draws: usize, key: Key) -> Result<Vec<Vec<usize>>, BoundError> {
        let (n, d) = (self.labels.len(), self.network.features());
        let mut counts = vec![vec![0; n]; self.predictors.len()];
        let each = (ROWS / draws.max(1)).max(1);
        for start in (0..n).step_by(each) {
            let len = each.min(n - start);
            let part = Tensor::new(self.images.device(), [len, d], &means[start * d..(start + len) * d]);
            let keys: Vec<Key> = (start..start + len).map(|i| key.fold(i)).collect();
            let z = self.noise.draw(&part, draws, &keys);
            for (predictor, counts) in self.predictors.iter().zip(&mut counts) {
                let found = predictor.predict(&z)?;
                for (i, found) in found.chunks(draws).enumerate() {
                    let label = self.labels[start + i];
                    counts[start + i] = found.iter().filter(|&&found| found != label).count();
                }
            }
        }
        Ok(counts)
    }

    /// The means `(n, d)` where an ascent of the cross-entropy of `predictor` ended, averaged over fresh draws at every step
    /// (expectation over transformation, Athalye et al. 2018); `None` if it has no gradient.
    fn attack(&self, predictor: &Predictor, threat: &Threat, key: Key) -> Option<Vec<f64>> {
        predictor.logits(&(self.encoder)(&self.images.slice(0, 0, 1)).detach())?;
        let n = self.labels.len();
        let keys: Vec<Key> = (0..n).map(|i| key.fold(i)).collect();
        let draws = self.config.attack.max(1);
        let evaluate = |u: &Tensor, query: Query<'_>| {
            let z = (self.encoder)(u);
            let (m, d) = (z.shape()[0], z.shape()[1]);
            let pairs = query.rows.iter().zip(query.passes);
            let fresh: Vec<Key> =
                pairs.map(|(&row, &pass)| keys[row].fold("draw").fold(u64::from(pass))).collect();
            let noise = Tensor::random(z.device(), Random::Normal, &fresh, &[draws, d], z.dtype());
            let noisy =
                &z.reshape([m, 1, d]).broadcast_to([m, draws, d]) + &noise.mul_scalar(self.noise.sigma);
            let labels = query.rows.iter().flat_map(|&row| std::iter::repeat_n(self.labels[row], draws));
            let labels: Vec<u32> = labels.collect();
            let labels = Array::new(z.device(), [labels.len()], &labels);
            let logits = predictor.logits(&noisy.reshape([m * draws, d])).expect("it has logits");
            Evaluation::of(logits.cross_entropy(&labels).reshape([m, draws]).mean(1).reshape([m]))
        };
        let found = ascend(self.images, &evaluate, threat, &Pgd::usual(threat, self.steps), &keys).best;
        crate::robust_batch::check_inside(self.images, &found, threat);
        Some(self.network.forward(&found).array().to_f64())
    }
}

impl PredictorRun<'_> {
    /// Attacks within the radius of `moved`, which is not below earlier ones, and compares with the bound. Every predictor
    /// faces the points of all attacks so far: those through predictors with a gradient and those without labels.
    ///
    /// # Errors
    /// If a representation is not finite, an attack exceeds a certificate, or a limit from draws lies above its bound: the
    /// last two are errors in the program, or something less likely than δ.
    pub fn measure(&mut self, moved: &Displacements) -> Result<(), BoundError> {
        let PredictorEvaluation { network, predictors, config, labels, key, noise, .. } = self.evaluation;
        let (epsilon, n, d) = (moved.epsilon, labels.len(), network.features());
        let (threat, key) = (Threat::linf(epsilon), key.fold("radius").fold(epsilon.to_bits()));
        self.points.push(moved.ends.clone());
        for (i, predictor) in predictors.iter().enumerate() {
            self.points.extend(self.evaluation.attack(predictor, &threat, key.fold("attack").fold(i)));
        }
        for points in &self.points {
            finite(points, epsilon)?;
            let far = row_distances(points, &self.clean, d);
            self.reached.iter_mut().zip(far).for_each(|(reached, far)| *reached = reached.max(far));
        }
        check_certified(&self.reached, &moved.certified, epsilon)?;

        // The worst point of each image for each predictor by draws of their own; new draws say how bad it is.
        let pilot = |points: &Vec<f64>| self.evaluation.count(points, config.pilot, key.fold("pilot"));
        let pilots: Vec<Vec<Vec<usize>>> = self.points.iter().map(pilot).collect::<Result<_, _>>()?;
        for (p, predictor) in predictors.iter().enumerate() {
            let worst = |i: usize| (0..pilots.len()).rev().max_by_key(|&at| pilots[at][p][i]).unwrap_or(0);
            let means: Vec<f64> =
                (0..n).flat_map(|i| &self.points[worst(i)][i * d..(i + 1) * d]).copied().collect();
            let only = PredictorEvaluation { predictors: std::slice::from_ref(predictor), ..self.evaluation };
            let attacked = only.count(&means, config.draws, key.fold("attacked").fold(p))?.remove(0);
            let sample = |i: usize, far: f64| DrawnErrors {
                pilot_errors: self.counts[p][0][i],
                pilot_draws: config.pilot,
                errors: self.counts[p][1][i],
                draws: config.draws,
                rho: far / noise.sigma,
            };
            let samples = |far: &[f64]| -> Vec<DrawnErrors> { (0..n).map(|i| sample(i, far[i])).collect() };
            let (reached, certified) = (samples(&self.reached), samples(&moved.certified));
            let level = PredictorLevel {
                epsilon,
                attacked: attacked.iter().sum::<usize>() as f64 / (n * config.draws) as f64,
                bound: mean_drawn_bound(&reached, config.delta),
                certified: mean_drawn_bound(&certified, config.delta),
            };
            let each = config.delta / n as f64;
            let below =
                |i: usize| accuracy_lower(attacked[i], config.draws, each) <= drawn_bound(&reached[i], each);
            let images = (0..n).filter(|&i| !below(i)).count();
            let mean = level.attacked - hoeffding_margin(n * config.draws, 1.0, config.delta);
            // By what holds, because a NaN compares as false.
            let holds = mean <= level.bound && mean <= level.certified && images == 0;
            if !holds {
                let predictor = predictor.kind().name();
                return Err(BoundError::PredictorBoundViolated { predictor, epsilon, images });
            }
            self.errors[p].levels.push(level);
        }
        Ok(())
    }

    /// `(n)`: how far attacks moved the means so far, in deviations of the noise.
    pub fn reached(&self) -> Vec<f64> {
        self.reached.iter().map(|far| far / self.evaluation.noise.sigma).collect()
    }

    /// What was counted, for each predictor.
    pub fn finish(self) -> Vec<PredictorErrors> {
        self.errors
    }
}

/// Draws in memory at a time.
const ROWS: usize = 16_384;

fn finite(means: &[f64], epsilon: f64) -> Result<(), BoundError> {
    if means.iter().all(|v| v.is_finite()) { Ok(()) } else { Err(BoundError::NotFinite { epsilon }) }
}

#[cfg(test)]
mod tests;
