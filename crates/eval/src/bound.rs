//! Bound evaluation: clean, attacked, bounded and certified loss of many tasks on one encoder.

use serde::{Deserialize, Serialize};
use tarrl_attacks::{LabelLoss, Pgd, Threat, attack_classifier, pgd};
use tarrl_bound::{
    AttackedSample, BoundChain, LinearHead, LpNorm, RegressionHead, out_of_order, squared_bound,
};
use tarrl_certify::{Certificates, Network};
use tarrl_tensor::{Key, Tensor};

use crate::bound_error::BoundError;
use crate::displacement::{Displacements, NO_CLAIM, check_certified, check_finite, row_distances, spread};
use crate::downstream::{FittedTask, TaskHead};
use crate::head::DeviceHead;
use crate::robust_batch::check_inside;
use crate::statistics::Interval;

/// One encoder with fitted heads and the images that they are evaluated on.
///
/// The radius `R(x)` in the bound is the largest displacement that any attack here reached, those on the losses of other
/// tasks included: a lower bound of the true one. Every loss is measured at a point within that radius, so that Theorem A2
/// (`docs/theory.md`) holds sample by sample without exception; this verifies the theorem and certifies nothing. What is
/// certified comes from the certificates alone.
#[derive(Clone, Copy)]
pub struct BoundEvaluation<'a> {
    /// The encoder in inference mode, from pixels `(n, h, w, c)` to representations `(n, d)`; gradients go through it.
    pub encoder: &'a dyn Fn(&Tensor) -> Tensor,
    /// The same encoder as certificates know it; attacked points are evaluated by it in f64.
    pub network: &'a Network,
    /// `(n, h, w, c)`: the images, pixels in \[0, 1\].
    pub images: &'a Tensor,
    /// The tasks, with the truth for these images.
    pub tasks: &'a [FittedTask],
    /// Steps of PGD on the loss of each task.
    pub steps: usize,
}

/// Everything measured at one radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BoundLevel {
    /// Radius ε, in pixels.
    pub epsilon: f64,
    /// R relative to the spread of the representations: the mean of the largest displacements that attacks reached.
    pub displacement: f64,
    /// The same of the certified displacements, an upper bound.
    pub certified_displacement: f64,
    /// The median over samples of certified over reached displacement.
    pub tightness: f64,
    /// One for each task.
    pub tasks: Vec<TaskBound>,
    /// One for each family of tasks: means over its tasks.
    pub families: Vec<TaskBound>,
}

/// One task, or the mean of a family of tasks, at one radius; losses in nats or squared units, means over the same images.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TaskBound {
    /// Its name.
    pub name: String,
    /// The family that it belongs to.
    pub family: String,
    /// Images.
    pub n: usize,
    /// Tasks that are averaged.
    pub tasks: usize,
    /// Clean loss.
    pub clean: Mean,
    /// Loss at the worst point found.
    pub attacked: Mean,
    /// The gap form of the bound at the largest displacement that an attack reached.
    pub gap: Mean,
    /// The certified loss.
    pub certified: Mean,
    /// The largest ratio of certified to attacked loss among the tasks.
    pub worst_ratio: f64,
    /// `C(h) R`, what the bound adds to the clean loss: constant of the head times the mean of the largest displacements
    /// that attacks reached.
    #[serde(rename = "rise")]
    pub bound_increase: f64,
    /// Images classified correctly, summed over the tasks; absent for regression.
    pub correct: Option<CorrectCounts>,
}

/// Numbers of images that are classified correctly. Stored as `[clean, attacked, certified]`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(from = "[usize; 3]", into = "[usize; 3]")]
pub struct CorrectCounts {
    /// Without attack.
    pub clean: usize,
    /// At every point that an attack reached.
    pub attacked: usize,
    /// At every point of the ball, by certificate.
    pub certified: usize,
}

/// A mean with the half-width of its 95 % interval over the images.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The half-width.
    pub half_width: f64,
}

impl BoundEvaluation<'_> {
    /// Attacks every task's loss at the radius of `displacements` and compares clean, attacked, bounded and certified
    /// loss, sample by sample. `certificates` belong to the same encoder, images and radius.
    ///
    /// # Errors
    /// If the certificates do not fit a head, a representation or a loss is not finite, all representations are equal, or
    /// an inequality is violated, which is an error in the program.
    ///
    /// # Panics
    /// If shapes do not fit or an attack leaves the ball.
    pub fn measure(
        &self,
        displacements: &Displacements,
        certificates: &Certificates,
    ) -> Result<BoundLevel, BoundError> {
        let (d, epsilon) = (self.network.features(), displacements.epsilon);
        let threat = Threat { epsilon, ..certificates.provenance.config.threat };
        let clean = self.network.forward(self.images).array().to_f64();
        let mut ends = vec![displacements.ends.clone()];
        ends.extend(self.tasks.iter().map(|task| self.attack(task, &threat)));
        let ends: Vec<&[f64]> = ends.iter().map(Vec::as_slice).collect();
        check_finite(&ends, epsilon)?;
        let mut radii = vec![0.0f64; self.images.shape()[0]];
        for end in &ends {
            radii.iter_mut().zip(row_distances(end, &clean, d)).for_each(|(r, reached)| *r = r.max(reached));
        }
        check_certified(&radii, &displacements.certified, epsilon)?;
        let points = Points { clean: &clean, ends: &ends, radii: &radii, d };
        let losses =
            self.tasks.iter().map(|task| points.losses(task, certificates)).collect::<Result<Vec<_>, _>>()?;
        let scale = spread(&clean, d);
        if scale == 0.0 {
            return Err(BoundError::Collapsed);
        }
        let relative = |radii: &[f64]| radii.iter().sum::<f64>() / radii.len() as f64 / scale;
        let mut families: Vec<&str> = self.tasks.iter().map(|task| task.family.as_str()).collect();
        families.dedup();
        let members = |family: &str| -> Vec<&TaskLosses> {
            let members = self.tasks.iter().zip(&losses).filter(|(task, _)| task.family == family);
            members.map(|(_, losses)| losses).collect()
        };
        Ok(BoundLevel {
            epsilon,
            displacement: relative(&radii),
            certified_displacement: relative(&displacements.certified),
            tightness: displacements.tightness(),
            tasks: (self.tasks.iter().zip(&losses))
                .map(|(task, losses)| summarize(&task.name, &task.family, &[losses]))
                .collect(),
            families: families.iter().map(|family| summarize(family, family, &members(family))).collect(),
        })
    }

    /// `(n, d)`, row-major: the representations, in f64, where an attack on the loss of a task ended.
    fn attack(&self, task: &FittedTask, threat: &Threat) -> Vec<f64> {
        let attack = Pgd::usual(threat, self.steps);
        let keys: Vec<Key> = (0..self.images.shape()[0]).map(|i| task.key.fold(i)).collect();
        let (device, dtype) = (self.images.device(), self.images.dtype());
        let worst = match &task.head {
            TaskHead::Classifier { head, labels } => {
                let head = DeviceHead::new(head, device, dtype);
                let logits = |u: &Tensor| head.forward(&(self.encoder)(u));
                let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
                let loss = LabelLoss::CrossEntropy;
                attack_classifier(&logits, self.images, &labels, loss, threat, &attack, &keys).worst
            }
            TaskHead::Regressor { head, weight, targets } => {
                let row = Tensor::new(device, [weight.len(), 1], weight).cast(dtype);
                let bias = head.predict(&vec![0.0; weight.len()])[0];
                let error = |u: &Tensor, of: &[usize]| {
                    let target: Vec<f64> = of.iter().map(|&i| targets[i] - bias).collect();
                    let target = Tensor::new(u.device(), [of.len(), 1], &target).cast(u.dtype());
                    (&(self.encoder)(u).matmul(&row) - &target).square().reshape([of.len()])
                };
                pgd(self.images, &error, threat, &attack, &keys).best
            }
        };
        check_inside(self.images, &worst, threat);
        self.network.forward(&worst).array().to_f64()
    }
}

/// Clean and attacked representations in f64, and how far attacks moved each sample.
struct Points<'a> {
    /// `(n, d)`.
    clean: &'a [f64],
    /// `(n, d)` for each attack.
    ends: &'a [&'a [f64]],
    /// `(n)`: the largest displacement that any attack reached.
    radii: &'a [f64],
    d: usize,
}

/// Losses of every sample under one task, each `(n)`.
struct TaskLosses {
    clean: Vec<f64>,
    attacked: Vec<f64>,
    gap: Vec<f64>,
    certified: Vec<f64>,
    bound_increase: f64,
    correct: Option<CorrectCounts>,
}

impl Points<'_> {
    fn losses(&self, task: &FittedTask, certificates: &Certificates) -> Result<TaskLosses, BoundError> {
        let (losses, violations) = match &task.head {
            TaskHead::Classifier { head, labels } => self.classification(head, labels, certificates)?,
            TaskHead::Regressor { head, weight, targets } => {
                self.regression(head, weight, targets, certificates)?
            }
        };
        if violations > 0 {
            return Err(BoundError::BoundViolated { task: task.name.clone(), samples: violations });
        }
        if losses.clean.iter().chain(&losses.attacked).any(|loss| loss.is_nan() || *loss >= NO_CLAIM) {
            return Err(BoundError::LossTooLarge { task: task.name.clone() });
        }
        Ok(losses)
    }

    /// Cross-entropies, and the number of samples that violate an inequality.
    fn classification(
        &self,
        head: &LinearHead,
        labels: &[usize],
        certificates: &Certificates,
    ) -> Result<(TaskLosses, usize), BoundError> {
        let report = certificates.apply(head, labels, self.ends)?;
        let chain = |(i, &label): (usize, &usize)| {
            let row = |z: &[f64]| -> Vec<f64> { z[i * self.d..][..self.d].to_vec() };
            let rows: Vec<Vec<f64>> = self.ends.iter().map(|end| row(end)).collect();
            let worst = rows.iter().max_by(|a, b| head.loss(a, label).total_cmp(&head.loss(b, label)));
            let attacked = worst.cloned().unwrap_or_else(|| row(self.clean));
            let radius = self.radii[i];
            BoundChain::of(
                head,
                &AttackedSample { clean: &row(self.clean), attacked: &attacked, label, radius },
            )
        };
        let chains: Vec<BoundChain> = labels.iter().enumerate().map(chain).collect();
        let violations = report.violations() + chains.iter().filter(|chain| chain.is_violated()).count();
        let constant = head.constant(LpNorm::L2);
        let losses = TaskLosses {
            clean: report.chains.iter().map(|c| c.clean).collect(),
            attacked: report.chains.iter().map(|c| c.attacked).collect(),
            gap: chains.iter().map(|c| c.gap.min(NO_CLAIM)).collect(),
            certified: report.chains.iter().map(|c| c.certified.min(NO_CLAIM)).collect(),
            bound_increase: (constant * self.radii.iter().sum::<f64>() / self.radii.len() as f64)
                .min(NO_CLAIM),
            correct: Some(CorrectCounts {
                clean: report.count(|c| c.correct),
                attacked: report.count(|c| c.survives),
                certified: report.count(|c| c.is_certified),
            }),
        };
        Ok((losses, violations))
    }

    /// Squared errors, and the number of samples that violate an inequality.
    fn regression(
        &self,
        head: &RegressionHead,
        weight: &[f64],
        targets: &[f64],
        certificates: &Certificates,
    ) -> Result<(TaskLosses, usize), BoundError> {
        let (d, n) = (self.d, targets.len());
        let found = certificates.squared_errors(head, &[weight], targets)?;
        let error = |z: &[f64], i: usize| (head.predict(&z[i * d..][..d])[0] - targets[i]).powi(2);
        let clean: Vec<f64> = (0..n).map(|i| error(self.clean, i)).collect();
        let attacked: Vec<f64> =
            (0..n).map(|i| self.ends.iter().map(|end| error(end, i)).fold(clean[i], f64::max)).collect();
        let certified: Vec<f64> = found.iter().map(|pair| pair.1.min(NO_CLAIM)).collect();
        let shift = |i: usize| head.constant() * self.radii[i];
        let gap: Vec<f64> = (0..n).map(|i| squared_bound(clean[i].sqrt(), shift(i)).min(NO_CLAIM)).collect();
        let violated =
            |&i: &usize| [gap[i], certified[i]].iter().any(|&bound| out_of_order(&[attacked[i], bound]));
        let violations = (0..n).filter(violated).count();
        let bound_increase = ((0..n).map(shift).sum::<f64>() / n as f64).min(NO_CLAIM);
        Ok((TaskLosses { clean, attacked, gap, certified, bound_increase, correct: None }, violations))
    }
}

/// The mean of tasks, sample by sample, with intervals over the samples.
fn summarize(name: &str, family: &str, tasks: &[&TaskLosses]) -> TaskBound {
    let n = tasks[0].clean.len();
    let count = tasks.len() as f64;
    let mean = |of: fn(&TaskLosses) -> &Vec<f64>| {
        let values: Vec<f64> =
            (0..n).map(|i| tasks.iter().map(|task| of(task)[i]).sum::<f64>() / count).collect();
        let interval = Interval::over_samples(&values);
        Mean { mean: interval.mean, half_width: interval.half_width }
    };
    let ratio = |task: &TaskLosses| task.certified.iter().sum::<f64>() / task.attacked.iter().sum::<f64>();
    let correct: Option<Vec<CorrectCounts>> = tasks.iter().map(|task| task.correct).collect();
    TaskBound {
        name: name.to_owned(),
        family: family.to_owned(),
        n,
        tasks: tasks.len(),
        clean: mean(|t| &t.clean),
        attacked: mean(|t| &t.attacked),
        gap: mean(|t| &t.gap),
        certified: mean(|t| &t.certified),
        worst_ratio: tasks.iter().map(|task| ratio(task)).fold(0.0, f64::max),
        bound_increase: tasks.iter().map(|task| task.bound_increase).sum::<f64>() / count,
        correct: correct.map(|all| all.into_iter().fold(CorrectCounts::default(), CorrectCounts::plus)),
    }
}

impl CorrectCounts {
    fn plus(self, other: Self) -> Self {
        Self {
            clean: self.clean + other.clean,
            attacked: self.attacked + other.attacked,
            certified: self.certified + other.certified,
        }
    }
}

impl From<[usize; 3]> for CorrectCounts {
    fn from([clean, attacked, certified]: [usize; 3]) -> Self {
        Self { clean, attacked, certified }
    }
}

impl From<CorrectCounts> for [usize; 3] {
    fn from(counts: CorrectCounts) -> Self {
        [counts.clean, counts.attacked, counts.certified]
    }
}

#[cfg(test)]
mod tests;
