//! Objectives table (T6): base objectives without and with the regularizer.

use tarrl_report::{Column, Table};

use super::at_clean::frontiers;
use super::cells::{keys, radius};
use super::headline::{Attacked, frontier_notes, settings};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::profile::Profile;
use tarrl_jobs::Key;

/// Does the regularizer help whatever the objective?
pub(super) struct Objectives;

impl Artifact for Objectives {
    fn id(&self) -> &'static str {
        "T6"
    }

    fn title(&self) -> &'static str {
        "Base objectives without and with the regularizer"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        if profile.pairs.is_empty() {
            return Err("shows `pairs`; add `pairs` or remove it".to_owned());
        }
        settings(profile).map(|_| ())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(layout.pairs.iter().flatten(), |job| job.frontier.into_iter().collect()))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let settings = settings(profile).map_err(anyhow::Error::msg)?;
        let pairs = &results.layout.pairs;
        let frontiers = frontiers(results, pairs.iter().flatten())?;
        let levels = 0..profile.attack.epsilons.len();
        let levels: Vec<_> = levels.map(|level| Attacked::by_pgd(&frontiers, profile, level)).collect();
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            stub: "objective".into(),
            columns: levels
                .iter()
                .flat_map(|part| {
                    ["without", "with", "more by"].map(|label| Column {
                        group: format!("{}, {}", part.attack, radius(part.epsilon)),
                        label: label.into(),
                        ..Column::default()
                    })
                })
                .collect(),
            notes: frontier_notes(profile, settings),
            ..Table::default()
        };
        let mut raised = 0;
        for (pair, [without, _]) in pairs.iter().enumerate() {
            let (base, regularized) = (2 * pair, 2 * pair + 1);
            let (mut cells, mut is_raised) = (Vec::new(), true);
            for part in &levels {
                for method in [base, regularized] {
                    cells.push(part.cell(profile, part.paired.estimate(method), "accuracy"));
                }
                let more = part.paired.advantage(regularized, base);
                is_raised &= more.is_some_and(|more| more.mean > 0.0);
                cells.push(part.cell(profile, more, "advantage"));
            }
            raised += usize::from(is_raised);
            table.push_row(without.method.title.clone(), cells);
        }
        table.caption = format!(
            "Any base objective? Robust accuracy where a linear head has {:.1} % clean accuracy; the two encoders of a row \
             differ in the regularizer alone, which raises it at every radius for {raised} of {} objectives.",
            100.0 * settings.clean,
            pairs.len()
        );
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}
