//! T6: does the regularizer help whatever the objective?

use tarrl_report::{Best, Cell, Column, Keys, Table};

use super::{Results, accuracy, interval_note, radius};
use crate::stages::attack;
use crate::study::Row;

/// The table and what it shows in a sentence.
pub(super) fn table(results: &Results<'_>) -> anyhow::Result<(Table, Vec<String>)> {
    let profile = &results.lab.profile;
    let pgd = format!("PGD-{}", profile.attack.steps);
    let mut columns = Vec::new();
    for group in ["without", "with the regularizer"] {
        let labels = profile.attack.epsilons.iter().map(|e| format!("{pgd}, {}", radius(e.value())));
        columns.extend(["clean".to_owned()].into_iter().chain(labels).map(|label| Column {
            group: group.into(),
            label,
            best: None,
            decimals: 1,
        }));
    }
    let mut table = Table {
        id: "T6".into(),
        title: "Base objectives without and with the regularizer".into(),
        caption: "Any base objective? Robust accuracy of a linear head trained on clean images; left and right differ \
                  in the regularizer alone."
            .into(),
        stub: "objective".into(),
        columns,
        notes: vec![interval_note(results.lab)],
        ..Table::default()
    };
    let mut better = 0;
    for [without, with] in &results.study.pairs {
        let (mut cells, base) = cells(results, without)?;
        let (more, regularized) = self::cells(results, with)?;
        cells.extend(more);
        better += usize::from(regularized.iter().zip(&base).all(|(with, without)| with > without));
        table.push_row(without.method.title.clone(), cells);
    }
    table.columns.iter_mut().for_each(|column| column.best = Some(Best::Highest));
    let finding = format!(
        "The regularizer raises robust accuracy at every radius for {better} of {} base objectives.",
        results.study.pairs.len()
    );
    Ok((table, vec![finding]))
}

/// The cells of a method, and its robust accuracies.
fn cells(results: &Results<'_>, row: &Row) -> anyhow::Result<(Vec<Option<Cell>>, Vec<f64>)> {
    let profile = &results.lab.profile;
    let attacks: Vec<attack::Output> = results.of(row, |jobs| jobs.attack, |f| f.parse())?;
    let keys = |attack: &str, epsilon: Option<f64>| Keys {
        dataset: profile.dataset.clone(),
        protocol: "linear".into(),
        attack: attack.into(),
        epsilon,
        metric: "accuracy".into(),
    };
    let clean = accuracy(&attacks.iter().map(|a| (a.clean_correct, a.n)).collect::<Vec<_>>());
    let mut cells = vec![Some(Cell::measured(clean, keys("none", None)))];
    let mut robust = Vec::new();
    for epsilon in &profile.attack.epsilons {
        let epsilon = epsilon.value();
        let counts: Vec<_> = attacks.iter().map(|a| (a.correct_at(epsilon), a.n)).collect();
        let estimate = accuracy(&counts);
        robust.push(estimate.mean);
        let pgd = format!("pgd-{}", profile.attack.steps);
        cells.push(Some(Cell::measured(estimate, keys(&pgd, Some(epsilon)))));
    }
    Ok((cells, robust))
}
