//! What others report, in columns of their own beside ours.

use tarrl_report::{Cell, Column, Keys, Published, Table, Value};
use tarrl_train::Method;

use super::{Results, radius};
use crate::published::Figures;

/// Adds the published figures for dataset, encoder and radii of the study to a table whose rows are the methods of the
/// study in their order: three columns for each radius, and a row for each method that only others have trained.
///
/// # Errors
/// Fails if the file of a method that only others have trained is missing or faulty.
pub(super) fn add(results: &Results<'_>, table: &mut Table) -> anyhow::Result<()> {
    let profile = &results.lab.profile;
    let fits = |figures: &&Figures| {
        figures.dataset == profile.dataset
            && figures.encoder == profile.encoder.arch
            && profile.encoder.width == 1.0
            && profile.attack.epsilons.contains(&figures.epsilon)
    };
    let figures: Vec<&Figures> = results.lab.published.iter().filter(fits).collect();
    let epsilons = profile.attack.epsilons.iter().filter(|e| figures.iter().any(|f| f.epsilon == **e));
    let epsilons: Vec<_> = epsilons.copied().collect();
    if epsilons.is_empty() {
        return Ok(());
    }
    let own = table.columns.len();
    for epsilon in &epsilons {
        let at = radius(epsilon.value());
        let labels = ["clean".to_owned(), format!("PGD-20, {at}"), format!("AutoAttack, {at}")];
        let column = |label| Column { group: "published".into(), label, best: None, decimals: 1 };
        table.columns.extend(labels.map(column));
    }
    let cells = |method: &str| -> Vec<Option<Cell>> {
        let of = |e| figures.iter().find(|f| f.method == method && f.epsilon == e);
        epsilons.iter().flat_map(|&e| of(e).map_or([const { None }; 3], |found| published(found))).collect()
    };
    for (row, method) in table.rows.iter_mut().zip(&results.study.rows) {
        row.cells.extend(cells(&method.name));
    }
    let mut shown: Vec<&str> = results.study.rows.iter().map(|row| row.name.as_str()).collect();
    for entry in &figures {
        if !shown.contains(&entry.method.as_str()) {
            shown.push(&entry.method);
            let nothing = std::iter::repeat_with(|| None).take(own);
            table.push_row(title(results, &entry.method)?, nothing.chain(cells(&entry.method)).collect());
        }
    }
    table.notes.push(
        "Published: figures of others for a linear head that is trained on clean images, on the whole test set; their \
         training differs from ours in epochs, augmentation and optimiser, so that they are no part of the comparison."
            .into(),
    );
    Ok(())
}

/// The figures of one entry: clean, PGD, AutoAttack.
fn published(figures: &Figures) -> [Option<Cell>; 3] {
    let epsilon = Some(figures.epsilon.value());
    let cell = |value: Option<f64>, attack: &str, epsilon| {
        let keys = Keys {
            dataset: figures.dataset.clone(),
            protocol: "linear".into(),
            attack: attack.into(),
            epsilon,
            metric: "accuracy".into(),
        };
        let source = figures.source.clone();
        value.map(|value| Cell { value: Value::Published(Published { value, source }), keys })
    };
    [
        cell(figures.clean, "none", None),
        cell(figures.pgd, "pgd-20", epsilon),
        cell(figures.autoattack, "autoattack", epsilon),
    ]
}

/// The title in the file of a method.
fn title(results: &Results<'_>, name: &str) -> anyhow::Result<String> {
    let path = results.methods.join(format!("{name}.toml"));
    Ok(if path.exists() { Method::read(&path)?.title } else { name.to_owned() })
}
