//! Corruptions table (T9): accuracy of the linear head under common corruptions, which nobody trains against.

use tarrl_eval::{Corruption, SEVERITIES};
use tarrl_report::{Best, Cell, Column, Keys, Table};

use super::cells::{added, asked, interval_note, over_seeds, per_method, tasks};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages::corruptions::{self, CorruptionsResult};
use tarrl_jobs::Key;

/// Does robustness to an adversary come with robustness to what happens to images anyway?
pub(super) struct Corruptions;

impl Artifact for Corruptions {
    fn id(&self) -> &'static str {
        "T9"
    }

    fn title(&self) -> &'static str {
        "Accuracy under common corruptions"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        tasks(profile).map(|_| ())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(added(layout, |layout, job, title, _| {
            vec![corruptions::job(&layout.context, [job.pretrain, job.head], title)]
        }))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let column =
            |label: &str| Column { label: label.into(), best: Some(Best::Highest), ..Column::default() };
        let names = Corruption::ALL.iter().map(|kind| kind.name());
        let labels = ["clean"].into_iter().chain(names.clone()).chain(["mean", "mean, severity 5"]);
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: "Does robustness to an adversary help where there is none? Accuracy in per cent of the linear head, \
                      trained on clean images, on corrupted test images."
                .into(),
            stub: "method".into(),
            columns: labels.clone().map(column).collect(),
            notes: vec![
                format!(
                    "Each kind is the mean over {SEVERITIES} severities (docs/evaluation.md has the definitions); the \
                     corrupted images are the same for every encoder."
                ),
                interval_note(results),
            ],
            ..Table::default()
        };
        for (method, seeds) in
            asked(results.layout).into_iter().zip(per_method::<CorruptionsResult>(results)?)
        {
            let row = |of: &dyn Fn(&CorruptionsResult) -> f64| {
                over_seeds(&seeds.iter().map(|r| 100.0 * of(r) / r.n as f64).collect::<Vec<_>>())
            };
            let kind = |r: &CorruptionsResult, i: usize| mean(&r.correct[i]);
            let kinds = 0..Corruption::ALL.len();
            let mut estimates = vec![row(&|r| r.clean as f64)];
            estimates.extend(kinds.clone().map(|i| row(&|r| kind(r, i))));
            let over = kinds.len() as f64;
            estimates.push(row(&|r| kinds.clone().map(|i| kind(r, i)).sum::<f64>() / over));
            estimates.push(row(&|r| r.correct.iter().map(|c| c[SEVERITIES - 1] as f64).sum::<f64>() / over));
            let cells = estimates.into_iter().zip(labels.clone()).map(|(estimate, label)| {
                let keys = Keys {
                    dataset: results.profile().dataset.clone(),
                    protocol: "linear".into(),
                    attack: label.into(),
                    epsilon: None,
                    metric: "accuracy".into(),
                };
                Some(Cell::measured(estimate, keys))
            });
            table.push_row(method.method.title.clone(), cells.collect());
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}

fn mean(counts: &[usize]) -> f64 {
    counts.iter().sum::<usize>() as f64 / counts.len() as f64
}
