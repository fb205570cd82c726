//! Choices table (T4): what matters in the regularizer, as variants of method files that differ in a key or two.

use tarrl_report::{Best, Cell, Column, Keys, Table};

use super::at_clean::{frontiers, most_clean, robust};
use super::cells::{accuracy, keys, over_seeds, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages::head::HeadResult;
use tarrl_jobs::Key;

/// Which choice matters?
pub(super) struct Choices;

impl Artifact for Choices {
    fn id(&self) -> &'static str {
        "T4"
    }

    fn title(&self) -> &'static str {
        "What matters in the regularizer"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        match (profile.variants.is_empty(), &profile.frontier) {
            (true, _) => Err("shows `variant`; add variants or remove it".to_owned()),
            (_, None) => Err("compares variants on `frontier`; add `frontier` or remove it".to_owned()),
            _ => Ok(()),
        }
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let methods = layout.variants.iter().map(|(_, method)| method);
        Ok(keys(methods, |job| [job.head].into_iter().chain(job.frontier).collect()))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let variants = &results.layout.variants;
        let clean = profile.frontier.as_ref().map_or(0.0, |frontier| frontier.clean);
        let frontiers = frontiers(results, variants.iter().map(|(_, method)| method))?;
        let epsilons: Vec<f64> = profile.attack.epsilons.iter().map(|e| e.value()).collect();
        let levels: Vec<_> = (0..epsilons.len()).map(|level| robust(&frontiers, level, clean)).collect();
        let column = |label: String, best| Column { label, best, ..Column::default() };
        let mut columns: Vec<Column> =
            epsilons.iter().map(|&e| column(radius(e), Some(Best::Highest))).collect();
        columns.push(column("largest clean".to_owned(), Some(Best::Highest)));
        columns.push(column("effective rank".to_owned(), None));
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: format!(
                "Which choice matters? Robust accuracy under PGD-{} at {:.1} % clean accuracy of variants that differ from \
                 the method's file in what their row says.",
                profile.attack.steps,
                100.0 * clean
            ),
            stub: "method and what is set".into(),
            columns,
            notes: vec![
                "As in T0, the largest robust accuracy on the line through heads of several norms, where the clean accuracy \
                 is reached; a dash: with one seed or more no head reaches it. Nothing is selected from this table."
                    .to_owned(),
            ],
            ..Table::default()
        };
        for (i, (label, method)) in variants.iter().enumerate() {
            let keys = |attack: &str, epsilon: Option<f64>, metric: &str| Keys {
                dataset: profile.dataset.clone(),
                protocol: format!("linear, clean accuracy {clean}"),
                attack: attack.into(),
                epsilon,
                metric: metric.into(),
            };
            let pgd = format!("pgd-{}", profile.attack.steps);
            let attacked = levels.iter().zip(&epsilons).map(|(level, &epsilon)| {
                level.estimate(i).map(|e| Cell::measured(e, keys(&pgd, Some(epsilon), "accuracy")))
            });
            let mut cells: Vec<Option<Cell>> = attacked.collect();
            let most = accuracy(most_clean(&frontiers[i]));
            cells.push(Some(Cell::measured(most, keys("none", None, "largest clean accuracy"))));
            let heads: Vec<HeadResult> = results.of(method, |jobs| Some(jobs.head))?;
            let ranks: Vec<f64> = heads.iter().map(|head| head.diagnostics.effective_rank).collect();
            cells.push(Some(Cell::measured(over_seeds(&ranks), keys("none", None, "effective rank"))));
            table.push_row(format!("{}: {label}", method.method.title), cells);
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}
