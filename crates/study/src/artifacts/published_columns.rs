//! Published columns: figures of other papers beside ours in the robustness table (T1).

use tarrl_report::{Cell, Column, Heading, Keys, Published, Table, Value};
use tarrl_train::Method;

use super::Results;
use super::cells::radius;
use crate::pixels::Pixels;
use crate::published::PublishedFigures;

/// Adds the published figures for dataset, encoder and radii of the study to a table whose rows are the methods of the
/// study in their order: three columns for each radius, and a row for each method that only others have trained.
///
/// # Errors
/// Fails if the file of a method that only others have trained is missing or faulty.
pub(super) fn add(results: &Results<'_>, table: &mut Table) -> anyhow::Result<()> {
    let profile = results.profile();
    let fits = |figures: &&PublishedFigures| {
        figures.dataset == profile.dataset
            && figures.encoder == profile.encoder.arch
            && profile.encoder.width == 1.0
            && profile.attack.epsilons.contains(&figures.epsilon)
    };
    let figures: Vec<&PublishedFigures> = results.context().published.iter().filter(fits).collect();
    let names: Vec<&str> = results.methods().iter().map(|method| method.name.as_str()).collect();
    let title = |name: &str| Ok(Method::read(&results.layout.folder.join(format!("{name}.toml")))?.title);
    append(table, &names, &figures, &title)
}

/// Sets `figures` beside the rows, which are the methods `names`.
fn append(
    table: &mut Table,
    names: &[&str],
    figures: &[&PublishedFigures],
    title: &dyn Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut epsilons: Vec<Pixels> = figures.iter().map(|figures| figures.epsilon).collect();
    epsilons.sort_by(|a, b| a.value().total_cmp(&b.value()));
    epsilons.dedup();
    if epsilons.is_empty() {
        return Ok(());
    }
    let own = table.columns.len();
    for epsilon in &epsilons {
        let at = radius(epsilon.value());
        let column = |attack: &str, label: String| Column {
            group: "published".into(),
            label,
            page: Some(Heading { group: format!("published, {at}"), label: attack.into() }),
            ..Column::default()
        };
        table.columns.push(column("clean", "clean".into()));
        table
            .columns
            .extend(["PGD-20", "AutoAttack"].map(|attack| column(attack, format!("{attack}, {at}"))));
    }
    let cells = |method: &str| -> Vec<Option<Cell>> {
        let of = |e| figures.iter().find(|f| f.method == method && f.epsilon == e);
        epsilons.iter().flat_map(|&e| of(e).map_or([const { None }; 3], |found| published(found))).collect()
    };
    for (row, name) in table.rows.iter_mut().zip(names) {
        row.cells.extend(cells(name));
    }
    let mut shown = names.to_vec();
    for entry in figures {
        if !shown.contains(&entry.method.as_str()) {
            shown.push(&entry.method);
            let nothing = std::iter::repeat_with(|| None).take(own);
            table.push_row(title(&entry.method)?, nothing.chain(cells(&entry.method)).collect());
        }
    }
    table.notes.push(
        "Published: figures of others for a linear head that is trained on clean images, on the whole test set; their \
         training differs from ours in epochs, augmentation and optimizer, so that they are no part of the comparison."
            .into(),
    );
    Ok(())
}

/// The figures of one entry: clean, PGD, AutoAttack.
fn published(figures: &PublishedFigures) -> [Option<Cell>; 3] {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::{self, Protocol};
    use tarrl_encoders::Arch;
    use tarrl_report::{Estimate, Report, write};

    fn figures(method: &str, clean: f64, autoattack: Option<f64>) -> PublishedFigures {
        PublishedFigures {
            method: method.into(),
            dataset: "cifar10".into(),
            encoder: Arch::ResNet18Cifar,
            protocol: Protocol::Linear,
            epsilon: "8/255".parse().unwrap(),
            clean: Some(clean),
            pgd: None,
            autoattack,
            source: format!("{method}, somewhere"),
        }
    }

    #[test]
    fn published_figures_get_their_own_columns_with_their_source() {
        let column = |label: &str| Column { label: label.into(), ..Column::default() };
        let mut table = Table {
            id: "T1".into(),
            title: "Test".into(),
            stub: "method".into(),
            columns: vec![column("clean")],
            ..Table::default()
        };
        for (name, mean) in [("Ours", 80.0), ("ACL", 70.0)] {
            let cell = Cell::measured(Estimate { mean, half_width: None, n: 1 }, Keys::default());
            table.push_row(name, vec![Some(cell)]);
        }
        let (acl, other) = (figures("acl", 78.5, Some(39.5)), figures("dynacl", 75.5, None));
        let title = |name: &str| Ok(name.to_uppercase());
        append(&mut table, &["tarr", "acl"], &[&acl, &other], &title).unwrap();
        assert_eq!(table.columns.len(), 4);
        let rows: Vec<_> = table.rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(rows, ["Ours", "ACL", "DYNACL"]);
        let there: Vec<Vec<bool>> =
            table.rows.iter().map(|row| row.cells.iter().map(Option::is_some).collect()).collect();
        assert_eq!(there[0], [true, false, false, false]);
        assert_eq!(there[1], [true, true, false, true]);
        assert_eq!(there[2], [false, true, false, false]);
        let folder = tempfile::tempdir().unwrap();
        let report = Report { title: "Test".into(), tables: vec![table], ..Report::default() };
        write(&report, folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
        let line = text.lines().find(|line| line.contains("39.5")).unwrap();
        assert!(line.contains("autoattack,0.03137") && line.ends_with("\"acl, somewhere\""), "{line}");
        assert!(text.lines().any(|line| line.contains(",80,") && line.ends_with(',')), "ours has no source");
    }

    #[test]
    fn the_projects_own_figures_are_sound() {
        let folder = crate::repository().join("experiments");
        let found = published::read(&folder).unwrap();
        assert!(found.len() >= 5);
        let methods = crate::profile::toml_files(&folder.join("methods")).unwrap();
        let names: Vec<String> =
            methods.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
        published::check_methods(&found, &names).unwrap();
    }
}
