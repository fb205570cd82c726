//! The bound beside the loss that attacks reach, on real encoders and for many tasks at once.

use crate::features::{encode, rows};
use crate::head::HeadOnDevice;
use crate::robust::check_inside;
use crate::statistics::Interval;
use serde::{Deserialize, Serialize};
use tarrl_attacks::{LabelLoss, Pgd, Start, Threat, attack_classifier, pgd};
use tarrl_bound::{AttackedSample, BoundChain, BoundReport, LinearHead, LpNorm, spread};
use tarrl_tensor::{DType, Key, Tensor};

/// How [`measure_bound`] and [`displacements`] attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeasureConfig {
    /// The ball around each image.
    pub threat: Threat,
    /// The attack. It always goes on to its last step, and on the representation it always starts
    /// at a random point: at the image itself a displacement has no gradient.
    pub pgd: Pgd,
    /// Images in memory at a time; changes no result.
    pub batch: usize,
}

impl Default for MeasureConfig {
    /// PGD-20 within 8/255 in the l-infinity norm.
    fn default() -> Self {
        MeasureConfig { threat: Threat::default(), pgd: Pgd { steps: 20, ..Pgd::default() }, batch: 256 }
    }
}

/// A task that an encoder is used for: labels of the images and a head that was trained elsewhere.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// What to call it in tables.
    pub name: String,
    /// Label of each image `(n)`.
    pub labels: Vec<u32>,
    /// The head.
    pub head: LinearHead,
}

/// Losses, displacements and bounds of one encoder on one sample of images.
///
/// **Not a certificate.** The radius of a sample is the largest displacement that any attack here
/// reached, a lower bound of `R(x)`. Every loss here is measured at a point within that radius, so that
/// Theorem A2 (docs/theory.md) holds sample by sample without exception; what is verified is the
/// theorem at the attacked points. A stronger attack may reach a larger displacement and with it a
/// loss above these bounds. Mean losses are figures of this sample: cross-entropy has no upper end from
/// which a confidence limit could be had.
#[derive(Clone, Debug, Serialize)]
pub struct BoundMeasurement {
    /// Radius of the ball, in pixels.
    pub epsilon: f64,
    /// `(n)`: the largest `‖f(x′) − f(x)‖₂` seen of each sample, over the attacks of all tasks and the one
    /// that knows no task.
    pub radii: Vec<f64>,
    /// `mean_i ‖f(x_i) − mean f‖`: what radii are to be compared with across encoders.
    pub spread: f64,
    /// One entry per task.
    pub tasks: Vec<TaskBound>,
}

/// Clean loss, measured adversarial loss and bounds of one task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskBound {
    /// Its name.
    pub name: String,
    /// `(n)`: the chain of each sample, each quantity at most the next. Its adversarial loss is the largest
    /// at the points where any of the attacks ended, those of other tasks included.
    pub chains: Vec<BoundChain>,
    /// Their means, the constant of the head, and the number of samples that violate the theorem: 0, or
    /// there is an error in the program.
    pub report: BoundReport,
    /// Share of clean images that are classified correctly; ties count as errors.
    pub clean_accuracy: f64,
    /// Share of the images that are classified correctly at the point of the largest loss.
    pub attacked_accuracy: f64,
}

impl BoundMeasurement {
    /// `mean radius / spread`: the displacement that training makes small, free of scale.
    pub fn relative_displacement(&self) -> f64 {
        self.radii.iter().sum::<f64>() / self.radii.len() as f64 / self.spread
    }

    /// Samples of all tasks that violate the theorem.
    pub fn violations(&self) -> usize {
        self.tasks.iter().map(|task| task.report.violations).sum()
    }
}

impl TaskBound {
    /// A quantity of the chain, such as `|c| c.gap`, with its interval over the samples.
    #[track_caller]
    pub fn interval(&self, quantity: fn(&BoundChain) -> f64) -> Interval {
        Interval::over_samples(&self.chains.iter().map(quantity).collect::<Vec<_>>())
    }
}

/// A lower bound of `R(x) = max_{x′ ∈ B(x)} ‖f(x′) − f(x)‖₂` for each image, by an attack that ascends
/// the squared displacement and needs no label: `(n)`.
///
/// # Panics
/// If the shapes do not fit, a representation is not finite, or the attack leaves the ball.
#[track_caller]
pub fn displacements(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    config: &MeasureConfig,
    key: Key,
) -> Vec<f64> {
    let study = Study { encoder, tasks: &[], config, key };
    study.batches(images).flat_map(|points| points.radii()).collect()
}

/// Attacks every task's loss and the representation itself on `images (n, h, w, c)`, pixels in [0, 1],
/// and sets the bound of each task beside the loss that was reached.
///
/// `encoder` is in inference mode and depends on no other row of the batch. Representations are taken
/// from it as they are; heads and bounds are then evaluated in f64, so that the theorem applies to the
/// numbers at hand. The randomness of image `i` is `key.fold(i)`.
///
/// # Panics
/// If the shapes do not fit, a label is out of range, a representation is not finite, or an attack leaves
/// the ball.
#[track_caller]
pub fn measure_bound(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    tasks: &[Downstream],
    config: &MeasureConfig,
    key: Key,
) -> BoundMeasurement {
    let n = images.shape()[0];
    for task in tasks {
        let labels = task.labels.len();
        assert_eq!(labels, n, "measure_bound: {n} images, but {labels} labels of '{}'", task.name);
    }
    let study = Study { encoder, tasks, config, key };
    let batches: Vec<Points> = study.batches(images).collect();
    let clean = Tensor::concat(&batches.iter().map(|points| &points.clean).collect::<Vec<_>>(), 0);
    BoundMeasurement {
        epsilon: config.threat.epsilon,
        radii: batches.iter().flat_map(Points::radii).collect(),
        spread: spread(&clean.cast(DType::F64)).item(),
        tasks: tasks.iter().map(|task| judge(task, &batches)).collect(),
    }
}

struct Study<'a> {
    encoder: &'a dyn Fn(&Tensor) -> Tensor,
    tasks: &'a [Downstream],
    config: &'a MeasureConfig,
    key: Key,
}

/// Representations `(n, d)` of one batch of images.
struct Points {
    /// Position of the first image in the whole sample.
    start: usize,
    n: usize,
    d: usize,
    clean: Tensor,
    /// The clean ones again, then those where each attack ended.
    z: Vec<Vec<f64>>,
}

impl Study<'_> {
    fn batches(&self, images: &Tensor) -> impl Iterator<Item = Points> {
        let (n, batch) = (images.shape()[0], self.config.batch);
        assert!(batch > 0 && n > 0, "a measurement needs images: {:?} by batches of {batch}", images.shape());
        (0..n)
            .step_by(batch)
            .map(move |start| self.attack(&images.slice(0, start, batch.min(n - start)), start))
    }

    fn attack(&self, x: &Tensor, start: usize) -> Points {
        let n = x.shape()[0];
        let threat = &self.config.threat;
        let keys =
            |attack: &str| -> Vec<Key> { (0..n).map(|i| self.key.fold(start + i).fold(attack)).collect() };
        let clean = encode(self.encoder, x);
        let moved = |u: &Tensor, of: &[usize]| {
            (&(self.encoder)(u) - &rows(&clean, of)).square().sum(1).reshape([of.len()])
        };
        let config = Pgd { start: Start::Random, include_clean: true, ..self.config.pgd };
        let mut ends = vec![pgd(x, &moved, threat, &config, &keys("displacement")).best];
        for task in self.tasks {
            let head = HeadOnDevice::new(&task.head, x);
            let logits = |u: &Tensor| head.logits(&(self.encoder)(u));
            let config = Pgd { early_stop: false, include_clean: true, ..self.config.pgd };
            let labels = &task.labels[start..start + n];
            let loss = LabelLoss::CrossEntropy;
            ends.push(attack_classifier(&logits, x, labels, loss, threat, &config, &keys(&task.name)).worst);
        }
        ends.iter().for_each(|end| check_inside(x, end, threat));
        let mut z = vec![clean.array().to_f64()];
        z.extend(ends.iter().map(|end| encode(self.encoder, end).array().to_f64()));
        // A maximum would pass over what is not a number, and claim that nothing moved.
        let finite = z.iter().flatten().all(|v| v.is_finite());
        assert!(finite, "a representation of images {start} to {} is not finite", start + n - 1);
        Points { start, n, d: clean.shape()[1], clean, z }
    }
}

impl Points {
    fn row(&self, point: usize, i: usize) -> &[f64] {
        &self.z[point][i * self.d..][..self.d]
    }

    fn radii(&self) -> Vec<f64> {
        let radius = |i: usize| {
            let far = |point: usize| LpNorm::L2.distance(self.row(point, i), self.row(0, i));
            (1..self.z.len()).map(far).fold(0.0, f64::max)
        };
        (0..self.n).map(radius).collect()
    }

    /// The point of the largest loss of each sample, the clean one included.
    fn worst(&self, i: usize, head: &LinearHead, label: usize) -> &[f64] {
        let loss = |point: &usize| head.loss(self.row(*point, i), label);
        let worst = (0..self.z.len()).max_by(|a, b| loss(a).total_cmp(&loss(b)));
        self.row(worst.unwrap_or(0), i)
    }
}

fn judge(task: &Downstream, batches: &[Points]) -> TaskBound {
    let head = &task.head;
    let radii: Vec<Vec<f64>> = batches.iter().map(Points::radii).collect();
    let samples: Vec<AttackedSample<'_>> = batches
        .iter()
        .zip(&radii)
        .flat_map(|(points, radii)| {
            (0..points.n).map(move |i| {
                let label = task.labels[points.start + i] as usize;
                let attacked = points.worst(i, head, label);
                AttackedSample { clean: points.row(0, i), attacked, label, radius: radii[i] }
            })
        })
        .collect();
    let right =
        |z: &[f64], label: usize| head.gaps(z, label).iter().enumerate().all(|(j, &m)| j == label || m < 0.0);
    let share = |count: usize| count as f64 / samples.len() as f64;
    TaskBound {
        name: task.name.clone(),
        chains: samples.iter().map(|sample| BoundChain::of(head, sample)).collect(),
        report: BoundReport::of(head, &samples),
        clean_accuracy: share(samples.iter().filter(|s| right(s.clean, s.label)).count()),
        attacked_accuracy: share(samples.iter().filter(|s| right(s.attacked, s.label)).count()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;
    use proptest::prelude::*;
    use tarrl_attacks::Norm;

    fn config(epsilon: f64) -> MeasureConfig {
        let pgd = Pgd { steps: 10, step_size: epsilon / 4.0, restarts: 2, ..Pgd::default() };
        MeasureConfig { threat: Threat::linf(epsilon), pgd, batch: 8 }
    }

    fn tasks(toy: &Toy) -> Vec<Downstream> {
        let other = Toy::new(99, toy.labels.len(), toy.head.features(), 2, 1);
        let coarse = toy.labels.iter().map(|&y| y.min(1)).collect();
        vec![
            Downstream { name: "classes".into(), labels: toy.labels.clone(), head: toy.head.clone() },
            Downstream { name: "coarse".into(), labels: coarse, head: other.head },
        ]
    }

    /// For `f(x) = A x` and the Euclidean ball, `R(x) = ε ‖A‖₂`, the same for every image.
    #[test]
    fn the_exact_displacement_of_a_linear_encoder() {
        let toy = Toy::new(6, 5, 4, 2, 1);
        let a = Tensor::new(toy.images.device(), [9, 4], &toy.matrix(9, 4));
        let threat = Threat { bounds: None, ..Threat::new(Norm::L2, 0.3) };
        let pgd = Pgd { steps: 60, step_size: 0.3, ..Pgd::default() };
        let encoder = |x: &Tensor| x.reshape([x.shape()[0], 9]).matmul(&a);
        let found =
            displacements(&encoder, &toy.images, &MeasureConfig { threat, pgd, batch: 2 }, Key::new(1));
        let exact = 0.3 * crate::spectrum::Spectrum::of_gram(&a).values[0].sqrt();
        for radius in found {
            // Never above the truth but for f32, and near it after sixty power iterations.
            assert!(radius <= exact * (1.0 + 1e-5) && radius >= exact * 0.999, "{radius} {exact}");
        }
    }

    #[test]
    fn radius_zero_is_the_clean_loss() {
        let toy = Toy::new(2, 12, 5, 3, 1);
        let found = measure_bound(&|x| toy.encode(x), &toy.images, &tasks(&toy), &config(0.0), Key::new(1));
        assert!(found.radii.iter().all(|&r| r == 0.0));
        for task in &found.tasks {
            assert_eq!(task.clean_accuracy, task.attacked_accuracy);
            for chain in &task.chains {
                assert!(chain.in_order().iter().all(|v| (v - chain.clean).abs() < 1e-12), "{chain:?}");
            }
        }
    }

    #[test]
    fn a_task_can_only_raise_the_radius() {
        let toy = Toy::new(8, 12, 5, 3, 1);
        let alone = displacements(&|x| toy.encode(x), &toy.images, &config(0.1), Key::new(1));
        let found = measure_bound(&|x| toy.encode(x), &toy.images, &tasks(&toy), &config(0.1), Key::new(1));
        assert!(alone.iter().zip(&found.radii).all(|(a, r)| a <= r && *a > 0.0));
        let z = toy.encode(&toy.images);
        assert!((found.spread / crate::diagnose(&z).spread - 1.0).abs() < 1e-12);
        assert!(found.relative_displacement() > 0.0);
        let interval = found.tasks[0].interval(|c| c.gap);
        assert!((interval.mean - found.tasks[0].report.mean.gap).abs() < 1e-12 && interval.n == 12);
    }

    #[test]
    #[should_panic(expected = "representation of images 0 to 3 is not finite")]
    fn what_is_not_a_number_is_no_displacement() {
        let toy = Toy::new(8, 4, 5, 3, 1);
        // √ of a difference of a pixel from its clean value: not a number below it.
        let first = toy.images.slice(0, 0, 1).reshape([1, 9]);
        let encoder = |x: &Tensor| (&x.reshape([x.shape()[0], 9]) - &first).sqrt();
        displacements(&encoder, &toy.images, &config(0.1), Key::new(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Every sample of every task, on random networks that no one trained to be smooth.
        #[test]
        fn the_theorem_holds_at_every_attacked_point(seed in 0u64..10_000, epsilon in 0.001f64..0.5, batch in 1usize..12) {
            let toy = Toy::new(seed, 10, 6, 3, 1);
            let run = |batch| {
                let config = MeasureConfig { batch, ..config(epsilon) };
                measure_bound(&|x| toy.encode(x), &toy.images, &tasks(&toy), &config, Key::new(seed))
            };
            let found = run(batch);
            prop_assert_eq!(found.violations(), 0);
            for task in &found.tasks {
                for chain in &task.chains {
                    prop_assert!(chain.clean <= chain.attacked);
                    prop_assert!(chain.attacked <= chain.gap + 1e-11 * (1.0 + chain.gap));
                    prop_assert!(chain.gap <= chain.additive + 1e-11 * (1.0 + chain.additive));
                }
                prop_assert!(task.attacked_accuracy <= task.clean_accuracy);
                prop_assert!(task.report.mean.attacked > task.report.mean.clean);
            }
            let whole = run(10);
            prop_assert_eq!(&whole.radii, &found.radii);
            for (a, b) in whole.tasks.iter().zip(&found.tasks) {
                prop_assert_eq!(&a.chains, &b.chains);
            }
        }
    }
}
