//! Objectives table (T6): base objectives without and with the regularizer.

use tarrl_report::{Best, Cell, Column, Keys, Table};

use super::cells::{accuracy, attacks, interval_note, keys, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::{Layout, MethodJobs};
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
        Ok(())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(layout.pairs.iter().flatten(), |job| vec![job.attack]))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let pgd = format!("PGD-{}", profile.attack.steps);
        let mut columns = Vec::new();
        for group in ["without", "with the regularizer"] {
            let labels = profile.attack.epsilons.iter().map(|e| format!("{pgd}, {}", radius(e.value())));
            columns.extend(["clean".to_owned()].into_iter().chain(labels).map(|label| Column {
                group: group.into(),
                label,
                best: Some(Best::Highest),
                ..Column::default()
            }));
        }
        let mut table = Table {
        id: self.id().into(),
        title: self.title().into(),
        caption: "Any base objective? Robust accuracy of a linear head trained on clean images; left and right differ \
                  in the regularizer alone."
            .into(),
        stub: "objective".into(),
        columns,
        notes: vec![interval_note(results)],
        ..Table::default()
    };
        let mut better = 0;
        for [without, with] in &results.layout.pairs {
            let (mut cells, base) = row(results, without)?;
            let (more, regularized) = self::row(results, with)?;
            cells.extend(more);
            better += usize::from(regularized.iter().zip(&base).all(|(with, without)| with > without));
            table.push_row(without.method.title.clone(), cells);
        }
        table.caption += &format!(
            " It raises robust accuracy at every radius for {better} of {} objectives.",
            results.layout.pairs.len()
        );
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}

/// The cells of a method, and its robust accuracies.
fn row(results: &Results<'_>, method: &MethodJobs) -> anyhow::Result<(Vec<Option<Cell>>, Vec<f64>)> {
    let profile = results.profile();
    let attacks = attacks(results, method)?;
    let keys = |attack: &str, epsilon: Option<f64>| Keys {
        dataset: profile.dataset.clone(),
        protocol: "linear".into(),
        attack: attack.into(),
        epsilon,
        metric: "accuracy".into(),
    };
    let clean = accuracy(attacks.iter().map(|a| (a.clean_correct, a.n)));
    let mut cells = vec![Some(Cell::measured(clean, keys("none", None)))];
    let mut robust = Vec::new();
    for epsilon in &profile.attack.epsilons {
        let epsilon = epsilon.value();
        let estimate = accuracy(attacks.iter().map(|a| (a.correct_at(epsilon), a.n)));
        robust.push(estimate.mean);
        let pgd = format!("pgd-{}", profile.attack.steps);
        cells.push(Some(Cell::measured(estimate, keys(&pgd, Some(epsilon)))));
    }
    Ok((cells, robust))
}
