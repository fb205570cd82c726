//! Downstream tasks that an encoder is evaluated on, and the heads that are fitted for them.

use serde::Serialize;
use tarrl_bound::{LinearHead, RegressionHead};
use tarrl_data::{Dataset, Grouping, Manifest, Task};
use tarrl_tensor::{Key, Tensor};

use crate::features::{dataset_pixels, labels};
use crate::fit_error::FitError;
use crate::{Lbfgs, ProbeConfig, linear_probe, ridge};

/// Numbers of groups of the random groupings, and how many there are of each.
const RANDOM: [(usize, usize); 4] = [(2, 6), (3, 4), (4, 4), (5, 4)];

/// Name and family of [`DownstreamTask::ShortClasses`].
const SHORT: &str = "classes, short head";

/// The weight of the squared norm of the heads; the same for all tasks instead of a search for each.
const L2: f64 = 0.1;

/// The same of [`DownstreamTask::ShortClasses`].
const SHORT_L2: f64 = 1.0;

/// The weight of the squared norm of regression heads.
const RIDGE_L2: f64 = 1e-3;

/// What a head is asked to predict for an image.
#[derive(Clone, Debug, Serialize)]
pub enum DownstreamTask {
    /// The classes of the dataset.
    Classes,
    /// The classes again, with a head whose norm is kept small: less accurate and harder to attack.
    ShortClasses,
    /// Groups of classes, with the family of the task.
    Groups(Grouping, &'static str),
    /// A number that follows from the pixels.
    #[serde(rename = "Number")]
    Statistic(PixelStatistic),
}

/// A number that follows from the pixels of the clean image; it lies in \[0, 1\].
#[derive(Clone, Copy, Debug, Serialize)]
pub enum PixelStatistic {
    /// The mean of all pixels.
    Brightness,
    /// The mean row of the brightness, as a share of the height.
    Height,
}

/// A task with its fitted head, and the truth for each image of a sample.
#[derive(Clone, Debug)]
pub struct FittedTask {
    /// Its name in tables.
    pub name: String,
    /// The family that it is averaged with.
    pub family: String,
    /// The head and the truth.
    pub head: TaskHead,
    /// The randomness of attacks on this task; image `i` draws its starting point from `key.fold(i)`.
    pub key: Key,
}

/// A linear head and the truth for each image of a sample.
#[derive(Clone, Debug)]
pub enum TaskHead {
    /// Predicts classes.
    Classifier {
        /// The head.
        head: LinearHead,
        /// `(n)`: the label of each image.
        labels: Vec<usize>,
    },
    /// Predicts one number.
    Regressor {
        /// The head.
        head: RegressionHead,
        /// `(d)`: its only row.
        weight: Vec<f64>,
        /// `(n)`: the true number of each image.
        targets: Vec<f64>,
    },
}

/// The standard tasks on a dataset, the same for every encoder and seed: the classes, the classes with a short head, their
/// natural groups where the manifest has some, each class against the rest, random groups, and two statistics of the pixels.
pub fn standard_tasks(manifest: &Manifest) -> Vec<DownstreamTask> {
    tasks(&manifest.classes, manifest.coarse.as_ref(), true)
}

/// The same for classes without natural groups; each class against the rest only where it is asked for, because that is a head for
/// every class.
pub fn tasks_of_classes(classes: &[String], each_class: bool) -> Vec<DownstreamTask> {
    tasks(classes, None, each_class)
}

fn tasks(classes: &[String], coarse: Option<&Grouping>, each_class: bool) -> Vec<DownstreamTask> {
    let coarse =
        coarse.into_iter().cloned().map(|grouping| DownstreamTask::Groups(grouping, "natural groups"));
    let single = if each_class { classes.len() } else { 0 };
    let binary = (0..single).map(|class| {
        DownstreamTask::Groups(Grouping::one_vs_rest(classes, class), "a class against the rest")
    });
    let random = RANDOM.iter().filter(|(groups, _)| *groups < classes.len()).flat_map(|&(groups, count)| {
        (1..=count).map(move |i| {
            let key = Key::new(i as u64).fold("random task").fold(groups);
            let grouping = Grouping::random(classes.len(), groups, key);
            DownstreamTask::Groups(grouping.named(format!("random {groups} groups, {i}")), "random groups")
        })
    });
    let statistics = [PixelStatistic::Brightness, PixelStatistic::Height].map(DownstreamTask::Statistic);
    [DownstreamTask::Classes, DownstreamTask::ShortClasses]
        .into_iter()
        .chain(coarse)
        .chain(binary)
        .chain(random)
        .chain(statistics)
        .collect()
}

/// How the classifiers of the standard tasks are fitted: the usual one, and that of [`DownstreamTask::ShortClasses`].
pub fn task_probes() -> [ProbeConfig; 2] {
    [probe(L2), probe(SHORT_L2)]
}

fn probe(l2: f64) -> ProbeConfig {
    ProbeConfig {
        l2: vec![l2],
        solver: Lbfgs { tolerance: 1e-4, ..Lbfgs::default() },
        ..ProbeConfig::default()
    }
}

impl DownstreamTask {
    /// Its name in tables.
    pub fn name(&self) -> &str {
        match self {
            Self::Classes => "classes",
            Self::ShortClasses => SHORT,
            Self::Groups(grouping, _) => &grouping.name,
            Self::Statistic(statistic) => statistic.name(),
        }
    }

    /// Fits the head on `features (n, d)` of the clean images `train`, and takes the truth for the images `sample`. All
    /// randomness, that of later attacks included, is drawn from `key`.
    ///
    /// # Errors
    /// If a feature is not finite, or the task has fewer than two classes.
    ///
    /// # Panics
    /// If features and images do not fit, or a grouping does not fit the classes.
    #[track_caller]
    pub fn fit(
        &self,
        train: &Dataset,
        sample: &Dataset,
        features: &Tensor,
        key: Key,
    ) -> Result<FittedTask, FitError> {
        let classify = |fit: Task, judged: Task, family: &str, l2: f64| {
            let [fit_key, key] = [key, key.fold("attack")].map(|key| key.fold(fit.name.as_str()));
            let head =
                linear_probe(features, &labels(&fit.labels), fit.classes.len(), &probe(l2), fit_key)?.head;
            let labels = judged.labels.iter().map(|&label| usize::from(label)).collect();
            let head = TaskHead::Classifier { head, labels };
            Ok(FittedTask { name: fit.name, family: family.to_owned(), head, key })
        };
        match self {
            Self::Classes => classify(Task::classes(train), Task::classes(sample), "classes", L2),
            Self::ShortClasses => {
                let fit = Task { name: SHORT.into(), ..Task::classes(train) };
                classify(fit, Task::classes(sample), SHORT, SHORT_L2)
            }
            Self::Groups(grouping, family) => {
                classify(grouping.apply(train), grouping.apply(sample), family, L2)
            }
            Self::Statistic(statistic) => {
                let of = |data: &Dataset| statistic.of(&dataset_pixels(data, features.device()));
                let targets = of(train);
                let truth = Tensor::new(features.device(), [targets.len(), 1], &targets);
                let fit = ridge(features, &truth, &[RIDGE_L2], key)?;
                let head = RegressionHead::new(fit.weight.len(), fit.weight.clone(), fit.bias);
                let head = TaskHead::Regressor { head, weight: fit.weight, targets: of(sample) };
                let key = key.fold("attack").fold(statistic.stream());
                Ok(FittedTask { name: statistic.name().to_owned(), family: "numbers".to_owned(), head, key })
            }
        }
    }
}

impl PixelStatistic {
    fn name(self) -> &'static str {
        match self {
            Self::Brightness => "brightness",
            Self::Height => "height of the center of brightness",
        }
    }

    /// The name of its random stream, which decides results and so keeps its first spelling.
    fn stream(self) -> &'static str {
        match self {
            Self::Brightness => "brightness",
            Self::Height => "height of the centre of brightness",
        }
    }

    /// The number of each image of `pixels (n, h, w, c)`.
    fn of(self, pixels: &Tensor) -> Vec<f64> {
        let (h, len) = (pixels.shape()[1], pixels.shape()[1..].iter().product::<usize>());
        let number = |image: &[f32]| {
            let sum: f64 = image.iter().map(|&v| f64::from(v)).sum();
            match self {
                Self::Brightness => sum / len as f64,
                Self::Height => {
                    let weighted = image.chunks(len / h).enumerate().map(|(row, values)| {
                        (row as f64 + 0.5) / h as f64 * values.iter().map(|&v| f64::from(v)).sum::<f64>()
                    });
                    if sum > 0.0 { weighted.sum::<f64>() / sum } else { 0.5 }
                }
            }
        };
        pixels.to_vec::<f32>().chunks(len).map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_data::Catalog;
    use tarrl_tensor::cpu;

    #[test]
    fn there_are_at_least_thirty_tasks_with_distinct_names() {
        let datasets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets");
        let tasks =
            standard_tasks(&Catalog::new(datasets, datasets).manifest("fashion-mnist-sample").unwrap());
        let mut names: Vec<&str> = tasks.iter().map(DownstreamTask::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((tasks.len(), names.len()), (33, 33));
    }

    #[test]
    fn pixel_statistics_equal_hand_computed_values() {
        let x = Tensor::new(&cpu(), [2, 2, 1, 1], &[1.0f32, 0.0, 0.25, 0.75]);
        assert_eq!(PixelStatistic::Brightness.of(&x), [0.5, 0.5]);
        assert_eq!(PixelStatistic::Height.of(&x), [0.25, 0.0625 + 0.5625]);
    }
}
