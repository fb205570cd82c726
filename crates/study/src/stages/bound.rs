//! The bound and the certificates beside the measured adversarial loss, for many tasks on one encoder.

mod tasks;

use std::sync::Arc;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::{LabelLoss, Pgd, Start, Threat, attack_classifier, pgd};
use tarrl_bound::{AttackedSample, BoundChain, squared_bound};
use tarrl_certify::{Certificates, Network};
use tarrl_data::Manifest;
use tarrl_encoders::InferenceEncoder;
use tarrl_eval::{Interval, features};
use tarrl_tensor::{Key as Random, Tensor};

use self::tasks::{Fitted, Judge, plans};
use super::certify::{
    Level as Certified, NO_CLAIM, Output as CertifyOutput, below, distances, hash_of, sample,
};
use super::head::{BATCH, Classifier};
use super::{StudyContext, pretrain};
use crate::jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "bound", version: 2 };

/// What a bound job gives.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Output {
    /// One for each radius at which the bound is measured.
    pub levels: Vec<Level>,
}

/// One radius.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Level {
    /// ε in pixels.
    pub epsilon: f64,
    /// R relative to the spread of the representations: the mean of the largest displacements that attacks reached.
    pub displacement: f64,
    /// The same of the certified displacements, an upper bound.
    pub certified_displacement: f64,
    /// The median over samples of certified over reached displacement.
    pub tightness: f64,
    /// One for each task.
    pub tasks: Vec<TaskLevel>,
    /// One for each family of tasks: means over its tasks.
    pub families: Vec<TaskLevel>,
}

/// One task, or the mean of a family of tasks, at one radius; losses in nats or squared units, means over the same images.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TaskLevel {
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
    /// `C(h) R`: constant of the head times the mean of the largest displacements that attacks reached.
    pub rise: f64,
    /// Images classified correctly: clean, at every point that an attack reached, at every point of the ball.
    /// Sums over the tasks; nothing for numbers.
    pub correct: Option<[usize; 3]>,
}

/// A mean with the half-width of its 95 % interval over the images.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The half-width.
    pub half_width: f64,
}

/// A job that measures the bound on the encoder of `pretrain`, with the certificates of `certify`.
pub fn job(
    lab: &Arc<StudyContext>,
    [pretrain, certify]: [Key; 2],
    manifest: &Manifest,
    name: &str,
    seed: u64,
) -> Job {
    let plans = plans(manifest);
    let n = lab.profile.bound.samples;
    let radii = lab.profile.bound_epsilons();
    let steps = lab.profile.attack.steps * radii.len() * plans.len();
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "tasks": plans, "images": n, "radii": radii, "steps": lab.profile.attack.steps,
            "probe": [tasks::probe(tasks::L2), tasks::probe(tasks::SHORT_L2)], "subset": lab.profile.subset,
        }),
        inputs: vec![pretrain, certify],
        seconds: 8.0 + 1e-3 * lab.profile.encoder.width.powi(2) * (n * steps) as f64,
    };
    let lab = lab.clone();
    Job::new(spec, move |context| {
        let folder = &context.input(0).folder;
        let encoder = lab.encoder(folder)?;
        let sample = sample(&lab)?;
        let x = lab.pixels(&sample);
        let hash = blake3::hash(&std::fs::read(folder.join(pretrain::ENCODER))?).to_hex().to_string();
        let train = lab.images()?.train;
        let train_features = features(&|x: &_| encoder.forward(x), &train, &lab.device, BATCH);
        let key = Random::new(context.seed()).fold("bound");
        let fitted: Vec<Fitted> =
            plans.iter().map(|plan| plan.fit(&lab, &train, &sample, &train_features, key)).collect();
        let certified: CertifyOutput = context.input(1).parse()?;
        let study = Study {
            network: Network::read(&|x| encoder.forward(x), &x.slice(0, 0, 1))?,
            encoder: &encoder,
            x: &x,
            tasks: &fitted,
            steps: lab.profile.attack.steps,
            key,
        };
        let mut levels = Vec::new();
        for (i, level) in certified.levels.iter().enumerate() {
            context.progress(i as u64, radii.len() as u64, &format!("ε = {}", level.epsilon));
            let path = context.input(1).folder.join(&level.file);
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let certificates =
                Certificates::from_bytes(&bytes).with_context(|| path.display().to_string())?;
            certificates.check(&hash, &hash_of(&x)).with_context(|| path.display().to_string())?;
            levels.push(study.level(level, &certificates)?);
        }
        serde_json::to_value(Output { levels }).context("the bound as JSON")
    })
}

/// One encoder with its heads.
struct Study<'a> {
    network: Network,
    encoder: &'a InferenceEncoder,
    x: &'a Tensor,
    tasks: &'a [Fitted],
    steps: usize,
    key: Random,
}

/// What is known of every sample under one task, each `(n)`.
struct Judged {
    clean: Vec<f64>,
    attacked: Vec<f64>,
    gap: Vec<f64>,
    certified: Vec<f64>,
    rise: f64,
    correct: Option<[usize; 3]>,
}

impl Study<'_> {
    fn level(&self, level: &Certified, certificates: &Certificates) -> anyhow::Result<Level> {
        let d = self.network.features();
        let clean = self.network.forward(self.x).array().to_f64();
        let mut ends = vec![level.ends.clone()];
        ends.extend(self.tasks.iter().map(|task| self.attacked(task, level.epsilon)));
        // The largest displacement of each sample that any attack reached, of whatever task.
        let mut radii = vec![0.0f64; self.x.shape()[0]];
        for end in &ends {
            radii.iter_mut().zip(distances(end, &clean, d)).for_each(|(r, reached)| *r = r.max(reached));
        }
        below(&radii, &level.certified, level.epsilon)?;
        let views: Vec<&[f64]> = ends.iter().map(Vec::as_slice).collect();
        let judge = |task| judge(task, certificates, &clean, &views, &radii);
        let judged = self.tasks.iter().map(judge).collect::<anyhow::Result<Vec<_>>>()?;
        let spread = spread(&clean, d);
        let relative = |radii: &[f64]| radii.iter().sum::<f64>() / radii.len() as f64 / spread;
        let mut families: Vec<String> = self.tasks.iter().map(|task| task.family.clone()).collect();
        families.dedup();
        let of = |family: &str| -> Vec<&Judged> {
            let members = self.tasks.iter().zip(&judged).filter(|(task, _)| task.family == family);
            members.map(|(_, judged)| judged).collect()
        };
        Ok(Level {
            epsilon: level.epsilon,
            displacement: relative(&radii),
            certified_displacement: relative(&level.certified),
            tightness: level.tightness(),
            tasks: (self.tasks.iter().zip(&judged))
                .map(|(task, judged)| summary(&task.name, &task.family, &[judged]))
                .collect(),
            families: families.iter().map(|family| summary(family, family, &of(family))).collect(),
        })
    }

    /// The representations `(n, d)`, in f64, where an attack on the loss of a task ended.
    fn attacked(&self, task: &Fitted, epsilon: f64) -> Vec<f64> {
        let threat = Threat::linf(epsilon);
        let attack = Pgd {
            steps: self.steps,
            step_size: 2.5 * epsilon / self.steps as f64,
            start: Start::Random,
            include_clean: true,
            ..Pgd::default()
        };
        let key = self.key.fold("attack").fold(task.name.as_str());
        let keys: Vec<Random> = (0..self.x.shape()[0]).map(|i| key.fold(i)).collect();
        let worst = match &task.judge {
            Judge::Classes { head, labels } => {
                let classifier = Classifier::new(head, self.x.device());
                let logits = |u: &Tensor| classifier.logits(&self.encoder.forward(u));
                let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
                let loss = LabelLoss::CrossEntropy;
                attack_classifier(&logits, self.x, &labels, loss, &threat, &attack, &keys).worst
            }
            Judge::Number { weight, targets, .. } => {
                let row = Tensor::new(self.x.device(), [weight.len(), 1], weight).cast(self.x.dtype());
                let bias = task.bias();
                let error = |u: &Tensor, of: &[usize]| {
                    let aim: Vec<f64> = of.iter().map(|&i| targets[i] - bias).collect();
                    let aim = Tensor::new(u.device(), [of.len(), 1], &aim).cast(u.dtype());
                    (&self.encoder.forward(u).matmul(&row) - &aim).square().reshape([of.len()])
                };
                pgd(self.x, &error, &threat, &attack, &keys).best
            }
        };
        self.network.forward(&worst).array().to_f64()
    }
}

fn judge(
    task: &Fitted,
    certificates: &Certificates,
    clean: &[f64],
    ends: &[&[f64]],
    radii: &[f64],
) -> anyhow::Result<Judged> {
    let d = clean.len() / radii.len();
    match &task.judge {
        Judge::Classes { head, labels } => {
            let report = certificates.apply(head, labels, ends)?;
            let chain = |(i, &label): (usize, &usize)| {
                let row = |z: &[f64]| -> Vec<f64> { z[i * d..][..d].to_vec() };
                let rows: Vec<Vec<f64>> = ends.iter().map(|end| row(end)).collect();
                let worst = rows.iter().max_by(|a, b| head.loss(a, label).total_cmp(&head.loss(b, label)));
                let attacked = worst.cloned().unwrap_or_else(|| row(clean));
                BoundChain::of(
                    head,
                    &AttackedSample { clean: &row(clean), attacked: &attacked, label, radius: radii[i] },
                )
            };
            let chains: Vec<BoundChain> = labels.iter().enumerate().map(chain).collect();
            let broken = report.violations() + chains.iter().filter(|chain| !chain.holds()).count();
            if broken > 0 {
                bail!(
                    "`{}`: bound or certificate is violated by {broken} samples: the program is wrong, because the theorems \
                     are not",
                    task.name
                );
            }
            let constant = head.constant(tarrl_bound::LpNorm::L2);
            Ok(Judged {
                clean: report.chains.iter().map(|c| c.clean).collect(),
                attacked: report.chains.iter().map(|c| c.attacked).collect(),
                gap: chains.iter().map(|c| c.gap).collect(),
                certified: report.chains.iter().map(|c| c.certified.min(NO_CLAIM)).collect(),
                rise: constant * radii.iter().sum::<f64>() / radii.len() as f64,
                correct: Some([
                    report.count(|c| c.correct),
                    report.count(|c| c.survives),
                    report.count(|c| c.is_certified),
                ]),
            })
        }
        Judge::Number { head, weight, targets } => {
            let found = certificates.squared_errors(head, &[weight], targets)?;
            let error = |z: &[f64], i: usize| (head.predict(&z[i * d..][..d])[0] - targets[i]).powi(2);
            let clean: Vec<f64> = (0..targets.len()).map(|i| error(clean, i)).collect();
            let attacked: Vec<f64> = (0..targets.len())
                .map(|i| ends.iter().map(|end| error(end, i)).fold(clean[i], f64::max))
                .collect();
            let certified: Vec<f64> = found.iter().map(|pair| pair.1.min(NO_CLAIM)).collect();
            let shift = |i: usize| head.constant() * radii[i];
            let gap: Vec<f64> =
                (0..targets.len()).map(|i| squared_bound(clean[i].sqrt(), shift(i))).collect();
            let ordered = |a: f64, b: f64| a <= b + 1e-11 * (1.0 + a.abs() + b.abs());
            let held = (0..targets.len())
                .filter(|&i| ordered(attacked[i], gap[i]) && ordered(attacked[i], certified[i]))
                .count();
            let broken = targets.len() - held;
            if broken > 0 {
                bail!("`{}`: the bound is violated by {broken} samples: the program is wrong", task.name);
            }
            let rise = (0..targets.len()).map(shift).sum::<f64>() / targets.len() as f64;
            Ok(Judged { clean, attacked, gap, certified, rise, correct: None })
        }
    }
}

/// The mean of tasks, sample by sample, with intervals over the samples.
fn summary(name: &str, family: &str, tasks: &[&Judged]) -> TaskLevel {
    let n = tasks[0].clean.len();
    let count = tasks.len() as f64;
    let mean = |of: fn(&Judged) -> &Vec<f64>| {
        let values: Vec<f64> =
            (0..n).map(|i| tasks.iter().map(|task| of(task)[i]).sum::<f64>() / count).collect();
        let interval = Interval::over_samples(&values);
        Mean { mean: interval.mean, half_width: interval.half_width }
    };
    let ratio = |task: &Judged| task.certified.iter().sum::<f64>() / task.attacked.iter().sum::<f64>();
    let correct: Option<Vec<[usize; 3]>> = tasks.iter().map(|task| task.correct).collect();
    TaskLevel {
        name: name.to_owned(),
        family: family.to_owned(),
        n,
        tasks: tasks.len(),
        clean: mean(|t| &t.clean),
        attacked: mean(|t| &t.attacked),
        gap: mean(|t| &t.gap),
        certified: mean(|t| &t.certified),
        worst_ratio: tasks.iter().map(|task| ratio(task)).fold(0.0, f64::max),
        rise: tasks.iter().map(|task| task.rise).sum::<f64>() / count,
        correct: correct.map(|all| {
            all.iter().fold([0; 3], |sum, one| [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]])
        }),
    }
}

/// `mean_i ‖z_i − mean z‖` of rows `(n, d)`: what displacements are compared with across encoders.
fn spread(z: &[f64], d: usize) -> f64 {
    let n = z.len() / d;
    let mut mean = vec![0.0; d];
    z.chunks(d).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n as f64));
    let center: Vec<f64> = mean.iter().copied().cycle().take(z.len()).collect();
    distances(z, &center, d).iter().sum::<f64>() / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(attacked: [f64; 2], certified: [f64; 2], correct: [usize; 3]) -> Judged {
        let [clean, gap] = [vec![0.1, 0.3], vec![3.0, 5.0]];
        let (attacked, certified) = (attacked.to_vec(), certified.to_vec());
        Judged { clean, attacked, gap, certified, rise: 2.0, correct: Some(correct) }
    }

    #[test]
    fn a_family_is_the_mean_of_its_tasks() {
        let tasks = [judged([1.0, 1.0], [2.0, 4.0], [2, 1, 0]), judged([2.0, 2.0], [2.0, 2.0], [2, 2, 2])];
        let found = summary("f", "f", &[&tasks[0], &tasks[1]]);
        assert_eq!((found.n, found.tasks), (2, 2));
        assert_eq!((found.clean.mean, found.attacked.mean, found.certified.mean), (0.2, 1.5, 2.5));
        assert_eq!(found.worst_ratio, 3.0);
        assert_eq!(found.correct, Some([4, 3, 2]));
    }

    #[test]
    fn the_spread_is_the_mean_distance_from_the_mean() {
        assert_eq!(spread(&[0.0, 0.0, 6.0, 8.0], 2), 5.0);
    }
}
