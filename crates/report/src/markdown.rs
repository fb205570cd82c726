//! Tables as Markdown, aligned so that the source reads as well as the page.

use crate::{Cell, Report, Table, Value};

/// `tables.md`: every table of the report with its question and notes.
pub fn tables(report: &Report) -> String {
    let mut text = format!("# {}\n", escape(&report.title));
    for item in report.tables.iter().filter(|table| !table.folded) {
        text += &format!("\n## {}. {}\n", escape(&item.id), escape(&item.title));
        if !item.caption.is_empty() {
            text += &format!("\n{}\n", escape(&item.caption));
        }
        text += &format!("\n{}", table(item));
        for remark in item.remarks() {
            text += &format!("\n{}\n", escape(&remark));
        }
    }
    text
}

/// One table: row labels to the left, figures to the right, the best of a column in bold.
///
/// A published figure is followed by its source in brackets.
pub fn table(table: &Table) -> String {
    let header = std::iter::once(table.stub.clone()).chain(table.columns.iter().map(|c| c.name()));
    let mut grid: Vec<Vec<String>> = vec![header.map(|name| escape(&name)).collect()];
    for (r, row) in table.rows.iter().enumerate() {
        table.assert_width(row);
        let cells = row.cells.iter().enumerate().map(|(c, cell)| match cell {
            None => "–".to_string(),
            Some(cell) => entry(cell, table.columns[c].decimals, table.is_best(r, c)),
        });
        grid.push(std::iter::once(escape(&row.label)).chain(cells).collect());
    }
    let width = |column: usize| grid.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..=table.columns.len()).map(width).collect();

    let mut lines: Vec<String> = grid.iter().map(|row| line(row, &widths)).collect();
    let rules = widths.iter().enumerate().map(|(i, &width)| match i {
        0 => "-".repeat(width),
        _ => "-".repeat(width - 1) + ":",
    });
    lines.insert(1, format!("| {} |\n", rules.collect::<Vec<_>>().join(" | ")));
    lines.concat()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(i, (cell, &width))| match i {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn entry(cell: &Cell, decimals: usize, best: bool) -> String {
    let (mean, half_width) = cell.digits(decimals);
    let figure = half_width.map_or(mean.clone(), |half| format!("{mean} ± {half}"));
    match &cell.value {
        Value::Published(published) => format!("{figure} ({})", escape(&published.source)),
        Value::Measured(_) if best => format!("**{figure}**"),
        Value::Measured(_) => figure,
    }
}

/// Text that Markdown shows as it stands: no markup, no HTML, no new cell, no new line.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '#' | '~' | '$' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Best, Column, Estimate, Keys, Published};

    #[test]
    fn a_table_is_aligned_and_shows_best_missing_and_source() {
        let column = |group: &str, label: &str| Column {
            group: group.into(),
            label: label.into(),
            best: Some(Best::Highest),
            ..Column::default()
        };
        let mut table = Table { stub: "method".into(), ..Table::default() };
        table.columns = vec![column("", "clean"), column("PGD-20", "ε = 0.1"), column("published", "clean")];
        let ours =
            |mean, half_width| Some(Cell::measured(Estimate { mean, half_width, n: 3 }, Keys::default()));
        let theirs = Published { value: 80.0, source: "A|B".into() };
        table.push_row("SimCLR", vec![ours(78.0, Some(0.5)), None, None]);
        let published = Some(Cell::published(theirs, Keys::default()));
        table.push_row("TARR_8", vec![ours(77.75, None), ours(32.5, Some(1.25)), published]);
        let want = "\
| method  |          clean | PGD-20 ε = 0.1 | published clean |
| ------- | -------------: | -------------: | --------------: |
| SimCLR  | **78.0 ± 0.5** |              – |               – |
| TARR\\_8 |           77.8 |     32.5 ± 1.2 |     80.0 (A\\|B) |
";
        assert_eq!(super::table(&table), want);
    }

    #[test]
    fn hostile_text_stays_in_its_cell() {
        let text = escape("a|b\n<script>*x*[l](u)`c`");
        assert_eq!(text, "a\\|b &lt;script&gt;\\*x\\*\\[l\\](u)\\`c\\`");
    }
}
