//! Validation of a report before it is written: numbers, names, ids and sources.

use std::collections::HashSet;

use crate::{Cell, Chart, Drawing, Figure, Report, ReportError, Scale, Table, Value};

/// Values that an axis can hold without overflow in its differences and powers of ten.
const LARGEST: f64 = 1e100;
const SMALLEST: f64 = 1e-100;

/// Refuses a report that would mislead: numbers that are not finite, names that occur twice,
/// measured and published figures in one column.
///
/// # Errors
/// The first finding, with its place and the remedy.
///
/// # Panics
/// If a row of a table or a grid has not one entry per column: that is a bug of the caller.
pub fn check(report: &Report) -> Result<(), ReportError> {
    let tables = report.tables.iter().map(|table| &table.id);
    let ids: Vec<&String> = tables.chain(report.figures.iter().map(|figure| &figure.id)).collect();
    for id in &ids {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || !id.chars().all(allowed) {
            return Err(ReportError::Id { id: id.to_string() });
        }
    }
    // File names are compared as a file system without case would.
    // The page has a section of its own with the id "provenance".
    let names = ids.iter().map(|id| id.to_ascii_lowercase()).chain(["provenance".to_string()]);
    unique("ids of the report", names)?;
    report.tables.iter().try_for_each(check_table)?;
    report.figures.iter().try_for_each(check_figure)
}

fn check_table(table: &Table) -> Result<(), ReportError> {
    unique(&format!("rows of table {}", table.id), table.rows.iter().map(|row| row.label.clone()))?;
    unique(&format!("columns of table {}", table.id), table.columns.iter().map(|column| column.name()))?;
    for row in &table.rows {
        table.assert_width(row);
        for (column, cell) in table.columns.iter().zip(&row.cells) {
            if let Some(cause) = cell.as_ref().and_then(fault) {
                let (table, row) = (table.id.clone(), row.label.clone());
                return Err(ReportError::Cell { table, row, column: column.name(), cause });
            }
        }
    }
    for (c, column) in table.columns.iter().enumerate() {
        let cells: Vec<&Cell> = table.rows.iter().filter_map(|row| row.cells[c].as_ref()).collect();
        let published = cells.iter().filter(|cell| matches!(cell.value, Value::Published(_))).count();
        if published > 0 && published < cells.len() {
            return Err(ReportError::Mixed { table: table.id.clone(), column: column.name() });
        }
    }
    Ok(())
}

/// What is wrong with a cell, if anything.
fn fault(cell: &Cell) -> Option<String> {
    let value = match &cell.value {
        Value::Measured(estimate) => infinite("mean", estimate.mean)
            .or_else(|| estimate.half_width.and_then(bad_half_width))
            .or_else(|| (estimate.n == 0).then(|| "n is 0".to_string())),
        Value::Published(published) => infinite("value", published.value).or_else(|| {
            published.source.trim().is_empty().then(|| "a published figure has no source".to_string())
        }),
    };
    value.or_else(|| cell.keys.epsilon.and_then(|epsilon| infinite("epsilon", epsilon)))
}

fn check_figure(figure: &Figure) -> Result<(), ReportError> {
    if let Drawing::Grid(grid) = &figure.drawing {
        for row in &grid.rows {
            let (got, want) = (row.images.len(), grid.columns.len());
            assert!(
                got == want,
                "figure {}, row {:?}: {got} images for {want} columns",
                figure.id,
                row.label
            );
        }
    }
    for (heading, chart) in figure.drawing.charts() {
        if let Some((place, cause)) = chart_fault(chart) {
            let place = if heading.is_empty() { place } else { format!("{heading}, {place}") };
            return Err(ReportError::Figure { figure: figure.id.clone(), place, cause });
        }
    }
    Ok(())
}

/// Place and cause of what is wrong with a chart, if anything.
fn chart_fault(chart: &Chart) -> Option<(String, String)> {
    for (name, axis) in [("x", &chart.x), ("y", &chart.y)] {
        if let Some((low, high)) = axis.range {
            let start = if axis.scale == Scale::Log { SMALLEST } else { -LARGEST };
            if !(start <= low && high - low >= SMALLEST && high <= LARGEST) {
                return Some((format!("{name} axis"), format!("no axis runs from {low} to {high}")));
            }
        }
    }
    let off_log = |name: &str, scale: Scale, v: f64| {
        (scale == Scale::Log && v < SMALLEST).then(|| format!("{name} is {v} on a logarithmic axis"))
    };
    for series in &chart.series {
        for (i, point) in series.points.iter().enumerate() {
            let cause = undrawable("x", point.x)
                .or_else(|| undrawable("y", point.y))
                .or_else(|| point.half_width.and_then(bad_half_width))
                .or_else(|| undrawable("half-width", point.half_width.unwrap_or(0.0)))
                .or_else(|| off_log("x", chart.x.scale, point.x))
                .or_else(|| off_log("y", chart.y.scale, point.y));
            if let Some(cause) = cause {
                return Some((format!("series {:?}, point {}", series.label, i + 1), cause));
            }
        }
    }
    chart.references.iter().find_map(|line| {
        let cause = undrawable("slope", line.slope).or_else(|| undrawable("intercept", line.intercept))?;
        Some((format!("reference line {:?}", line.label), cause))
    })
}

fn infinite(name: &str, value: f64) -> Option<String> {
    (!value.is_finite()).then(|| format!("{name} is {value}"))
}

fn undrawable(name: &str, value: f64) -> Option<String> {
    infinite(name, value).or_else(|| (value.abs() > LARGEST).then(|| format!("{name} is {value}")))
}

fn bad_half_width(value: f64) -> Option<String> {
    infinite("half-width", value).or_else(|| (value < 0.0).then(|| format!("half-width is {value}")))
}

fn unique(place: &str, names: impl Iterator<Item = String>) -> Result<(), ReportError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return Err(ReportError::Duplicate { place: place.to_string(), name });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Column, Estimate, Keys, Point, Published, Reference, Series};

    fn table_of(cells: Vec<Cell>) -> Report {
        let column = Column { group: "PGD-20".into(), label: "0.1".into(), ..Column::default() };
        let mut table = Table { id: "T1".into(), columns: vec![column], ..Table::default() };
        for (i, cell) in cells.into_iter().enumerate() {
            table.push_row(format!("row {i}"), vec![Some(cell)]);
        }
        Report { tables: vec![table], ..Report::default() }
    }

    fn ours(mean: f64, half_width: Option<f64>, n: usize) -> Cell {
        Cell::measured(Estimate { mean, half_width, n }, Keys::default())
    }

    fn theirs(value: f64, source: &str) -> Cell {
        Cell::published(Published { value, source: source.into() }, Keys::default())
    }

    fn message(report: &Report) -> String {
        check(report).unwrap_err().to_string()
    }

    #[test]
    fn bad_numbers_are_refused_with_table_row_and_column() {
        let off = Keys { epsilon: Some(f64::NAN), ..Keys::default() };
        let cells = [
            (ours(f64::NAN, None, 1), "mean is NaN"),
            (ours(f64::INFINITY, None, 1), "mean is inf"),
            (ours(1.0, Some(f64::NAN), 1), "half-width is NaN"),
            (ours(1.0, Some(-0.5), 1), "half-width is -0.5"),
            (ours(1.0, None, 0), "n is 0"),
            (theirs(f64::NEG_INFINITY, "x"), "value is -inf"),
            (theirs(1.0, " "), "no source"),
            (Cell::measured(Estimate { mean: 1.0, half_width: None, n: 1 }, off), "epsilon is NaN"),
        ];
        for (cell, cause) in cells {
            let text = message(&table_of(vec![cell]));
            assert!(text.starts_with("table T1, row \"row 0\", column \"PGD-20 0.1\": "), "{text}");
            assert!(text.contains(cause), "{text} lacks {cause}");
        }
        assert!(check(&table_of(vec![ours(1.0, Some(0.0), 1)])).is_ok());
    }

    #[test]
    fn figures_of_others_are_never_mixed_with_ours() {
        assert!(
            message(&table_of(vec![ours(1.0, None, 1), theirs(2.0, "x")])).contains("column of their own")
        );
        assert!(check(&table_of(vec![theirs(1.0, "x"), theirs(2.0, "y")])).is_ok());
    }

    #[test]
    fn names_tell_things_apart() {
        let mut report = table_of(vec![ours(1.0, None, 1), ours(2.0, None, 1)]);
        report.tables[0].rows[1].label = "row 0".into();
        assert!(message(&report).contains("rows of table T1: \"row 0\" occurs twice"));
        let mut twice = table_of(vec![]);
        twice.tables.push(Table { id: "t1".into(), ..Table::default() });
        assert!(message(&twice).contains("\"t1\" occurs twice"));
        for id in ["", "../x", "a b", "ε"] {
            let table = Table { id: id.into(), ..Table::default() };
            assert!(message(&Report { tables: vec![table], ..Report::default() }).contains("file name"));
        }
    }

    #[test]
    fn charts_are_refused_with_series_and_point() {
        let chart = |x: f64, y: f64, scale| {
            let points =
                vec![Point { x: 1.0, y: 1.0, ..Point::default() }, Point { x, y, ..Point::default() }];
            Chart {
                y: Axis { scale, ..Axis::default() },
                series: vec![Series { label: "s".into(), points, ..Series::default() }],
                ..Chart::default()
            }
        };
        let place = Some("series \"s\", point 2".to_string());
        assert_eq!(chart_fault(&chart(f64::NAN, 1.0, Scale::Linear)).map(|f| f.0), place);
        assert_eq!(chart_fault(&chart(1.0, 0.0, Scale::Log)).map(|f| f.0), place);
        assert_eq!(chart_fault(&chart(1.0, 0.0, Scale::Linear)), None);
        let mut off = chart(1.0, 1.0, Scale::Linear);
        off.references.push(Reference::level(f64::NAN, "chance"));
        assert!(chart_fault(&off).unwrap().0.contains("chance"));
        assert!(chart_fault(&chart(1.0, 1e308, Scale::Linear)).is_some());
        off.x.range = Some((1.0, 1.0));
        assert!(chart_fault(&off).unwrap().0.contains("x axis"));
    }
}
