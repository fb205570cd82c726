//! Cost table (T7): seconds, gradient evaluations and memory of training.

use anyhow::Context;
use tarrl_report::{Best, Cell, Column, Estimate, Keys, Table};
use tarrl_train::EpochRecord;

use super::cells::{keys, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::stages::attack::AttackResult;
use crate::stages::pretrain::PretrainResult;
use tarrl_jobs::{Finished, Key};

/// What does it cost?
pub(super) struct Cost;

impl Artifact for Cost {
    fn id(&self) -> &'static str {
        "T7"
    }

    fn title(&self) -> &'static str {
        "What training costs"
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(&layout.methods, |job| vec![job.pretrain, job.attack]))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let epsilon = profile.attack.epsilons[0].value();
        let column = |label: &str, best: Option<Best>, decimals: usize| Column {
            label: label.into(),
            best,
            decimals,
            ..Column::default()
        };
        let mut table = Table {
        id: self.id().into(),
        title: self.title().into(),
        caption: "What does it cost? One epoch of pre-training on this machine, and robust accuracy beside the time that \
                  it took to train, from nothing: the training of a teacher or of the encoder that a method starts from \
                  counts too."
            .into(),
        stub: "method".into(),
        columns: vec![
            column("seconds per epoch", Some(Best::Lowest), 1),
            column("forward passes per image", Some(Best::Lowest), 1),
            column("backward passes per image", Some(Best::Lowest), 1),
            column("minutes in all", Some(Best::Lowest), 2),
            column("peak memory, MB", Some(Best::Lowest), 0),
            column(&format!("PGD-{}, {}", profile.attack.steps, radius(epsilon)), Some(Best::Highest), 1),
            column("per minute of training", Some(Best::Highest), 1),
        ],
        notes: vec![
            "Time and memory are those of the last epoch of the first seed, of a process that shared the cores with others if \
             several jobs ran at once; passes are counted through the encoder in an \
             epoch, views and steps of attacks one by one. Memory is the process's, which keeps what an earlier job needed."
                .into(),
            "Passes, minutes in all and points of robust accuracy per minute include the training of a teacher and of the \
             encoder that a method starts from, each once; seconds per epoch are of the method's own."
                .into(),
        ],
        detail: true,
        ..Table::default()
    };
        for method in results.methods() {
            let first = &method.seeds[0];
            let epoch = |key: Key| {
                last_epoch(&results.finished[&key])
                    .with_context(|| format!("the training of {}", method.name))
            };
            let mut whole = Whole::default();
            for training in results.layout.trainings(first.pretrain) {
                whole.add(&epoch(training)?, profile.pretrain.epochs);
            }
            let epoch = epoch(first.pretrain)?;
            let attacked: AttackResult = results.finished[&first.attack].parse()?;
            let robust = 100.0 * attacked.correct_at(epsilon) as f64 / attacked.n as f64;
            let cell = |value: f64, metric: &str| {
                let keys = Keys {
                    dataset: profile.dataset.clone(),
                    protocol: "pretraining".into(),
                    metric: metric.into(),
                    ..Keys::default()
                };
                Some(Cell::measured(Estimate { mean: value, half_width: None, n: 1 }, keys))
            };
            table.push_row(
                method.method.title.clone(),
                vec![
                    cell(epoch.seconds, "seconds-per-epoch"),
                    cell(whole.forward, "forward-passes-per-image"),
                    cell(whole.backward, "backward-passes-per-image"),
                    cell(whole.minutes, "minutes-in-all"),
                    epoch.peak_memory.and_then(|bytes| cell(bytes as f64 / 1e6, "peak-memory-mb")),
                    cell(robust, "robust-accuracy"),
                    cell(robust / whole.minutes, "robust-accuracy-per-minute"),
                ],
            );
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}

/// The cost of a training and of those that it needs.
#[derive(Default)]
struct Whole {
    /// Through an encoder, per image and epoch.
    forward: f64,
    backward: f64,
    minutes: f64,
}

impl Whole {
    fn add(&mut self, epoch: &EpochRecord, epochs: usize) {
        let images = (epoch.seconds * epoch.images_per_second).max(1.0);
        self.forward += epoch.forward as f64 / images;
        self.backward += epoch.backward as f64 / images;
        self.minutes += epoch.seconds * epochs as f64 / 60.0;
    }
}

/// What the last epoch of a training was like.
fn last_epoch(finished: &Finished) -> anyhow::Result<EpochRecord> {
    let output: PretrainResult = finished.parse()?;
    output.last.context("it has no finished epoch")
}
