//! The downstream tasks that an encoder is judged on, and their heads.

use serde::Serialize;
use tarrl_bound::{LinearHead, RegressionHead};
use tarrl_data::{Dataset, Grouping, Manifest, Task};
use tarrl_eval::{Lbfgs, ProbeConfig, linear_probe, ridge};
use tarrl_tensor::{Key as Random, Tensor};

use crate::stages::{StudyContext, labels};

/// Numbers of groups of the random groupings, and how many there are of each.
const RANDOM: [(usize, usize); 4] = [(2, 6), (3, 4), (4, 4), (5, 4)];

/// Name of [`Plan::ShortClasses`].
const SHORT: &str = "classes, short head";

/// Something that a head is asked to say of an image.
#[derive(Clone, Debug, Serialize)]
pub(super) enum Plan {
    /// The classes of the dataset.
    Classes,
    /// The classes again, with a head whose norm is kept small: it is less exact and harder to attack.
    ShortClasses,
    /// Groups of classes, with the family of the task.
    Groups(Grouping, &'static str),
    /// A number that follows from the pixels.
    Number(Number),
}

/// A number that follows from the pixels of the clean image.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum Number {
    /// The mean of all pixels.
    Brightness,
    /// The mean row of the brightness, as a share of the height.
    Height,
}

/// A task with its head, and what is right for each sample.
pub(super) struct Fitted {
    pub(super) name: String,
    pub(super) family: String,
    pub(super) judge: Judge,
}

/// A head and what is right.
pub(super) enum Judge {
    /// Labels.
    Classes { head: LinearHead, labels: Vec<usize> },
    /// Numbers; `weight (d)` is the head's only row.
    Number { head: RegressionHead, weight: Vec<f64>, targets: Vec<f64> },
}

/// The tasks on a dataset, the same for every encoder and seed: the classes, their natural groups where there are
/// some, each class against the rest, random groups, and two numbers.
pub(super) fn plans(manifest: &Manifest) -> Vec<Plan> {
    let classes = &manifest.classes;
    let coarse = manifest.coarse.iter().cloned().map(|grouping| Plan::Groups(grouping, "natural groups"));
    let binary = (0..classes.len())
        .map(|class| Plan::Groups(Grouping::one_vs_rest(classes, class), "a class against the rest"));
    let random = RANDOM.iter().filter(|(groups, _)| *groups < classes.len()).flat_map(|&(groups, count)| {
        (1..=count).map(move |i| {
            let key = Random::new(i as u64).fold("random task").fold(groups);
            let grouping = Grouping::random(classes.len(), groups, key);
            Plan::Groups(grouping.named(format!("random {groups} groups, {i}")), "random groups")
        })
    });
    let numbers = [Number::Brightness, Number::Height].map(Plan::Number);
    [Plan::Classes, Plan::ShortClasses]
        .into_iter()
        .chain(coarse)
        .chain(binary)
        .chain(random)
        .chain(numbers)
        .collect()
}

/// The weight of the squared norm of heads, instead of a search for each.
pub(super) const L2: f64 = 0.1;

/// The same of [`Plan::ShortClasses`].
pub(super) const SHORT_L2: f64 = 1.0;

/// How the heads of the tasks are fitted.
pub(super) fn probe(l2: f64) -> ProbeConfig {
    ProbeConfig {
        l2: vec![l2],
        solver: Lbfgs { tolerance: 1e-4, ..Lbfgs::default() },
        ..ProbeConfig::default()
    }
}

impl Plan {
    /// Fits the head on representations `features (n, d)` of the images `train`, and says what is right for `sample`.
    pub(super) fn fit(
        &self,
        lab: &StudyContext,
        train: &Dataset,
        sample: &Dataset,
        features: &Tensor,
        key: Random,
    ) -> Fitted {
        let classify = |fit: Task, judged: Task, family: &str, l2: f64| {
            let key = key.fold(fit.name.as_str());
            let head = linear_probe(features, &labels(&fit.labels), fit.classes.len(), &probe(l2), key).head;
            let labels = judged.labels.iter().map(|&label| usize::from(label)).collect();
            Fitted { name: fit.name, family: family.to_owned(), judge: Judge::Classes { head, labels } }
        };
        match self {
            Plan::Classes => classify(Task::classes(train), Task::classes(sample), "classes", L2),
            Plan::ShortClasses => {
                let fit = Task { name: SHORT.into(), ..Task::classes(train) };
                classify(fit, Task::classes(sample), SHORT, SHORT_L2)
            }
            Plan::Groups(grouping, family) => {
                classify(grouping.apply(train), grouping.apply(sample), family, L2)
            }
            Plan::Number(number) => {
                let of = |data: &Dataset| number.of(&lab.pixels(data));
                let targets = of(train);
                let truth = Tensor::new(features.device(), [targets.len(), 1], &targets);
                let fit = ridge(features, &truth, &[1e-3], key);
                let head = RegressionHead::new(fit.weight.len(), fit.weight.clone(), fit.bias);
                Fitted {
                    name: number.name().to_owned(),
                    family: "numbers".to_owned(),
                    judge: Judge::Number { head, weight: fit.weight, targets: of(sample) },
                }
            }
        }
    }
}

impl Fitted {
    /// What the head of a number says of the representation 0.
    pub(super) fn bias(&self) -> f64 {
        match &self.judge {
            Judge::Number { head, weight, .. } => head.predict(&vec![0.0; weight.len()])[0],
            Judge::Classes { .. } => 0.0,
        }
    }
}

impl Number {
    fn name(self) -> &'static str {
        match self {
            Number::Brightness => "brightness",
            Number::Height => "height of the center of brightness",
        }
    }

    /// The number of each image of `pixels (n, h, w, c)`, standardized over nothing: it lies in [0, 1].
    fn of(self, pixels: &Tensor) -> Vec<f64> {
        let (h, len) = (pixels.shape()[1], pixels.shape()[1..].iter().product::<usize>());
        let number = |image: &[f32]| {
            let sum: f64 = image.iter().map(|&v| f64::from(v)).sum();
            match self {
                Number::Brightness => sum / len as f64,
                Number::Height => {
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
    use tarrl_tensor::cpu;

    #[test]
    fn there_are_at_least_thirty_tasks_with_names_of_their_own() {
        let catalog = crate::repository().join("datasets");
        let catalog = tarrl_data::Catalog::new(&catalog, &catalog);
        let plans = plans(&catalog.manifest("fashion-mnist-sample").unwrap());
        let mut names: Vec<String> = plans
            .iter()
            .map(|plan| match plan {
                Plan::Classes => "classes".into(),
                Plan::ShortClasses => SHORT.into(),
                Plan::Groups(grouping, _) => grouping.name.clone(),
                Plan::Number(number) => number.name().into(),
            })
            .collect();
        names.sort();
        names.dedup();
        assert_eq!((plans.len(), names.len()), (33, 33));
    }

    #[test]
    fn numbers_by_hand() {
        let x = Tensor::new(&cpu(), [2, 2, 1, 1], &[1.0f32, 0.0, 0.25, 0.75]);
        assert_eq!(Number::Brightness.of(&x), [0.5, 0.5]);
        assert_eq!(Number::Height.of(&x), [0.25, 0.0625 + 0.5625]);
    }
}
