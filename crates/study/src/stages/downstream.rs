//! Downstream stage: heads for other tasks on one encoder, clean and under attack: groups of the classes, each class against
//! the rest, and the classes of other datasets.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_data::{Dataset, Grouping, Manifest, Splits};
use tarrl_eval::{DownstreamTask, TaskHead, features, task_probes};
use tarrl_tensor::Key as Random;

use super::head::BATCH;
use super::sample::{self, Counts, count, outcomes, seconds};
use crate::context::StudyContext;
use crate::profile::Tasks;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "downstream", version: 1 };

/// The output of a downstream job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DownstreamResult {
    /// The dataset of the tasks.
    pub dataset: String,
    /// Its tasks.
    pub tasks: Vec<TaskResult>,
}

/// One task.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TaskResult {
    /// Its name.
    pub name: String,
    /// The family that it is averaged with.
    pub family: String,
    /// What is correct of the images of each of its classes.
    pub classes: Vec<Counts>,
}

impl TaskResult {
    /// The mean of the accuracies of its classes without attack.
    pub fn clean(&self) -> f64 {
        self.mean(Counts::clean_accuracy)
    }

    /// The same at the radius at place `level`.
    pub fn robust(&self, level: usize) -> f64 {
        self.mean(|counts| counts.robust_accuracy(level))
    }

    fn mean(&self, of: impl Fn(&Counts) -> f64) -> f64 {
        self.classes.iter().map(of).sum::<f64>() / self.classes.len() as f64
    }
}

/// The dataset whose tasks heads are fitted for.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The one that encoders are pre-trained on: groups of its classes, and each class against the rest.
    Own(&'a Manifest),
    /// Another one, and the job that checks it: its classes.
    Other(&'a Manifest, Key),
}

impl Source<'_> {
    fn manifest(&self) -> &Manifest {
        match self {
            Source::Own(manifest) | Source::Other(manifest, _) => manifest,
        }
    }

    fn tasks(&self) -> Vec<DownstreamTask> {
        let Source::Own(manifest) = self else { return vec![DownstreamTask::Classes] };
        let classes = &manifest.classes;
        let groups = manifest.coarse.iter().cloned().map(|g| DownstreamTask::Groups(g, GROUPS));
        let binary = (0..classes.len())
            .map(|class| DownstreamTask::Groups(Grouping::one_vs_rest(classes, class), ONE_AGAINST_THE_REST));
        groups.chain(binary).collect()
    }
}

/// The family of the natural groups of the classes.
pub const GROUPS: &str = "natural groups";
/// The family of the tasks with two classes.
pub const ONE_AGAINST_THE_REST: &str = "a class against the rest";

/// A job that fits heads for the tasks of `source` to the encoder of `pretrain` and attacks them.
pub fn job(
    study: &Arc<StudyContext>,
    pretrain: Key,
    source: Source<'_>,
    settings: &Tasks,
    name: &str,
    seed: u64,
) -> Job {
    let (tasks, manifest) = (source.tasks(), source.manifest());
    let other = match source {
        Source::Own(_) => None,
        Source::Other(manifest, data) => Some((manifest.name.clone(), data)),
    };
    let (radii, images) = (sample::radii(study), settings.images);
    let spec = Spec {
        name: format!("{name}, {}", manifest.name),
        stage: STAGE,
        seed,
        config: json!({
            "tasks": tasks, "attack": sample::attack(study), "radii": radii, "images": images, "probe": task_probes(),
            "subset": study.profile.subset,
        }),
        inputs: [pretrain].into_iter().chain(other.iter().map(|(_, data)| *data)).collect(),
        seconds: 3.0
            + seconds(study, manifest, tasks.len() * images * radii.len() * study.profile.attack.steps),
    };
    let (study, dataset) = (study.clone(), manifest.name.clone());
    Job::new(spec, move |context| {
        let own = study.images()?;
        let (train, test) = match &other {
            None => (own.train, own.test),
            Some((name, _)) => cut(study.source(name)?.load()?, own.train.len())?,
        };
        let encode = study.encode(context, 0)?;
        let sample = sample::sample(&test, images)?;
        let pixels = study.pixels(&sample);
        let train_features = features(&encode, &train, &study.device, BATCH);
        let key = Random::new(context.seed()).fold("downstream");
        let mut output = DownstreamResult { dataset: dataset.clone(), tasks: Vec::new() };
        for (i, task) in tasks.iter().enumerate() {
            context.progress(i as u64, tasks.len() as u64, task.name());
            let fitted = task.fit(&train, &sample, &train_features, key)?;
            let TaskHead::Classifier { head, labels } = &fitted.head else { continue };
            let truth: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
            let found = outcomes(&study, &encode, head, &pixels, &truth, fitted.key);
            let classes = (0..head.classes()).map(|class| count(&found, |i| labels[i] == class)).collect();
            output.tasks.push(TaskResult { name: fitted.name, family: fitted.family, classes });
        }
        serde_json::to_value(output).context("the tasks as JSON")
    })
}

/// At most `most` training images, balanced over the classes, and all test images.
fn cut(splits: Splits, most: usize) -> anyhow::Result<(Arc<Dataset>, Arc<Dataset>)> {
    let least = splits.train.counts().into_iter().min().unwrap_or(0);
    let per_class = (most / splits.train.classes.len()).min(least);
    let train = splits.train.balanced_subset(per_class, Random::new(0).fold("subset"))?;
    Ok((Arc::new(train), Arc::new(splits.test)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracies_of_a_task_are_means_over_its_classes() {
        let counts = |n, clean, robust| Counts { n, clean, robust: vec![robust] };
        let classes = vec![counts(90, 90, 45), counts(10, 5, 0)];
        let task = TaskResult { name: "t".into(), family: "f".into(), classes };
        assert_eq!((task.clean(), task.robust(0)), (0.75, 0.25));
    }

    #[test]
    fn the_tasks_of_the_own_dataset_need_no_other() {
        let datasets = crate::repository().join("datasets");
        let catalog = tarrl_data::Catalog::new(&datasets, &datasets);
        let manifest = catalog.manifest("fashion-mnist-sample").unwrap();
        let tasks = Source::Own(&manifest).tasks();
        let names: Vec<&str> = tasks.iter().map(DownstreamTask::name).collect();
        assert_eq!(names.len(), 11);
        assert_eq!((names[0], names[1]), ("kind of article", "T-shirt/top against the rest"));
    }
}
