//! Few-labels table (T10): heads that are fitted to a small share of the labels, clean and under attack.

use tarrl_report::Table;

use super::cells::{added, asked, interval_note, over_seeds, per_method, tasks};
use super::{Artifact, Rendered, Results, levels};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages::few_labels::{self, FewLabelsResult};
use crate::stages::sample::Counts;
use tarrl_jobs::Key;

/// How much of the robustness is left to a head that sees few labels?
pub(super) struct FewLabels;

impl Artifact for FewLabels {
    fn id(&self) -> &'static str {
        "T10"
    }

    fn title(&self) -> &'static str {
        "Accuracy with few labels"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        tasks(profile).map(|_| ())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let settings = tasks(&layout.context.profile).map_err(anyhow::Error::msg)?.clone();
        Ok(added(layout, |layout, job, title, seed| {
            vec![few_labels::job(&layout.context, job.pretrain, &layout.manifest, &settings, title, seed)]
        }))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let settings = tasks(profile).map_err(anyhow::Error::msg)?;
        let groups: Vec<String> =
            settings.shares.iter().map(|share| format!("{} % of the labels", 100.0 * share)).collect();
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: "What can be built with few labels? Accuracy in per cent of linear heads on frozen representations."
                .into(),
            stub: "method".into(),
            columns: levels::columns(results, &groups),
            notes: vec![
                format!(
                    "Mean over {} balanced draws of the training labels, the same for every encoder of a seed; the weight \
                     of the squared norm is the same for all. PGD-{}, one restart, on {} test images.",
                    settings.draws, profile.attack.steps, settings.images
                ),
                interval_note(results),
            ],
            ..Table::default()
        };
        let pgd = format!("pgd-{}", profile.attack.steps);
        for (method, seeds) in asked(results.layout).into_iter().zip(per_method::<FewLabelsResult>(results)?)
        {
            let mut cells = Vec::new();
            for (i, group) in groups.iter().enumerate() {
                let protocol = format!("linear, {group}");
                let keys = [profile.dataset.as_str(), protocol.as_str(), pgd.as_str(), "accuracy"];
                cells.extend(levels::cells(results, keys, |level| {
                    over_seeds(&seeds.iter().map(|seed| mean(&seed.shares[i], level)).collect::<Vec<_>>())
                }));
            }
            table.push_row(method.method.title.clone(), cells);
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}

/// The mean accuracy over draws, in per cent.
fn mean(draws: &[Counts], level: Option<usize>) -> f64 {
    let of = |draw: &Counts| level.map_or(draw.clean_accuracy(), |level| draw.robust_accuracy(level));
    100.0 * draws.iter().map(of).sum::<f64>() / draws.len() as f64
}
