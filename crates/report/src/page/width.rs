//! Widths of tables: which column groups fit the page side by side.

use std::ops::Range;

use crate::canvas::text_width;
use crate::{Table, Value};

/// The width of the page's content on a screen 1280 pixels wide, in pixels.
pub(super) const PAGE: f64 = 1240.0;
/// The size of letters in tables, and what a cell adds to its text at both sides.
const SIZE: f64 = 13.6;
const PADDING: f64 = 11.2;
/// Row labels wrap; more than this is not kept for them.
const LABEL: f64 = 170.0;

/// The width that `columns` of a table need beside its row labels, where every word stands whole and an interval may stand
/// below its mean: an estimate from above, in pixels.
pub(super) fn least_width(table: &Table, columns: impl Iterator<Item = usize>) -> f64 {
    let labels = table.rows.iter().map(|row| text_width(&row.heading().label, SIZE));
    let stub = labels.chain([text_width(&table.stub, SIZE)]).fold(0.0, f64::max).min(LABEL) + PADDING;
    stub + columns.map(|column| column_width(table, column)).sum::<f64>()
}

/// How many of the column groups, from the first on, fit the page together. `groups` are sorted as they stand there.
pub(super) fn groups_that_fit(table: &Table, groups: &[(String, Vec<usize>)]) -> usize {
    let fit = |count: &usize| {
        let columns = groups[..*count].iter().flat_map(|(_, columns)| columns.iter().copied());
        least_width(table, columns) <= PAGE
    };
    let counts: Range<usize> = 1..groups.len() + 1;
    counts.rev().find(fit).unwrap_or(0)
}

fn column_width(table: &Table, column: usize) -> f64 {
    let head = &table.columns[column];
    let label = head.heading().label;
    let words = label.split_whitespace().map(|word| text_width(word, SIZE));
    let cells = table.rows.iter().filter_map(|row| row.cells[column].as_ref()).flat_map(|cell| {
        let (mean, half_width) = cell.digits(head.decimals);
        let mark = if matches!(cell.value, Value::Published(_)) { "00" } else { "" };
        [
            text_width(&(mean + mark), SIZE),
            half_width.map_or(0.0, |half| text_width(&format!("± {half}"), SIZE)),
        ]
    });
    words.chain(cells).fold(0.0, f64::max) + PADDING
}
