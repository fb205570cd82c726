//! Tables on the page: column groups that can be closed, rows by group, cards on narrow screens.

use maud::{Markup, html};

use super::heading::heading;
use super::width::groups_that_fit;
use crate::{Cell, Row, Table, Value};

/// A table with its heading, legend and files.
pub(super) fn section(table: &Table, subject: &str) -> Markup {
    html! {
        section id=(table.id) {
            (heading(&table.id, &table.title))
            @if table.folded {
                details { summary { "All " (table.rows.len()) " rows" } (body(table, subject)) }
            } @else { (body(table, subject)) }
            (legend(table))
        }
    }
}

/// The rows and columns of a table as they stand on the page.
struct Arrangement<'a> {
    table: &'a Table,
    subject: &'a str,
    /// Neighboring columns under one heading.
    columns: Vec<(String, Vec<usize>)>,
    /// Rows of one group.
    rows: Vec<(String, Vec<usize>)>,
}

fn body(table: &Table, subject: &str) -> Markup {
    let columns = gathered(table.columns.iter().map(|column| column.heading().group));
    let rows = gathered(table.rows.iter().map(|row| row.heading().group));
    let open = groups_that_fit(table, &columns);
    let folds = columns.iter().filter(|(name, _)| !name.is_empty()).count() > 1;
    let arranged = Arrangement { table, subject, columns, rows };
    html! {
        // Where not even one group of columns fits, every screen is treated as a narrow one.
        div class={ "table" @if open == 0 { " cards" } } {
            @if folds {
                span class="soft" { "Columns:" }
                @for (g, (name, _)) in arranged.columns.iter().enumerate() {
                    @if !name.is_empty() {
                        @let id = format!("{}-columns-{g}", table.id);
                        input type="checkbox" id=(id) class={ "fold" (g.min(FOLDS)) } checked[g < open.max(1)];
                        label for=(id) { (name) }
                    }
                }
            }
            @if table.folded || arranged.rows.len() <= 1 {
                (grid(&arranged, &(0..arranged.rows.len()).collect::<Vec<_>>()))
            } @else {
                (grid(&arranged, &[0]))
                @for group in 1..arranged.rows.len() {
                    details { summary { (arranged.rows[group].0) } (grid(&arranged, &[group])) }
                }
            }
        }
    }
}

/// The style sheet closes as many column groups as this, and those after it together.
const FOLDS: usize = 9;

/// A table element with the rows of the groups `shown`.
fn grid(arranged: &Arrangement<'_>, shown: &[usize]) -> Markup {
    let Arrangement { table, columns, rows, .. } = arranged;
    let grouped = columns.iter().any(|(name, _)| !name.is_empty());
    let named = |group: usize| Some(rows.get(group)?.0.as_str()).filter(|name| !name.is_empty());
    let caption = if table.caption.is_empty() { &table.title } else { &table.caption };
    html! {
        table role="table" {
            caption {
                // The question stands above the first rows; other groups of rows have their name alone.
                @if shown.first().is_none_or(|&group| group == 0) { (caption) " " }
                @if let [group] = shown { @if let Some(name) = named(*group) { b { (name) } } }
            }
            thead role="rowgroup" {
                @if grouped {
                    tr role="row" {
                        td class="stub" {}
                        @for (g, (name, columns)) in columns.iter().enumerate() {
                            @if name.is_empty() { td colspan=(columns.len()) {} }
                            @else {
                                th class={ "group g" (g.min(FOLDS)) } scope="colgroup" role="columnheader"
                                    colspan=(columns.len()) { span { (name) } }
                            }
                        }
                    }
                }
                tr role="row" {
                    th class="stub" scope="col" role="columnheader" { (table.stub) }
                    @for (g, (_, columns)) in columns.iter().enumerate() {
                        @for &c in columns {
                            th class={ "g" (g.min(FOLDS)) } scope="col" role="columnheader" {
                                (table.columns[c].heading().label)
                            }
                        }
                    }
                }
            }
            @for &group in shown {
                tbody role="rowgroup" {
                    @if shown.len() > 1 {
                        @if let Some(name) = named(group) {
                            tr role="row" {
                                th class="rows" scope="rowgroup" colspan=(table.columns.len() + 1) { (name) }
                            }
                        }
                    }
                    @for &r in &rows[group].1 { (line(arranged, r)) }
                }
            }
        }
    }
}

fn line(arranged: &Arrangement<'_>, r: usize) -> Markup {
    let row = &arranged.table.rows[r];
    let label = row.heading().label;
    html! {
        tr role="row" class=[is_own(row, arranged.subject).then_some("own")] {
            th scope="row" role="rowheader" { (label) }
            @for (g, (_, columns)) in arranged.columns.iter().enumerate() {
                @for &c in columns { (entry(arranged.table, r, c, g.min(FOLDS))) }
            }
        }
    }
}

/// Whether a row is about the subject of the report.
fn is_own(row: &Row, subject: &str) -> bool {
    !subject.is_empty() && (row.label == subject || row.heading().label == subject)
}

fn entry(table: &Table, r: usize, c: usize, fold: usize) -> Markup {
    let column = &table.columns[c];
    let heading = column.heading();
    let name = [heading.group, heading.label].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let name = name.join(", ");
    let Some(cell) = &table.rows[r].cells[c] else {
        return html! { td role="cell" class={ "g" (fold) } data-name=(name) title="not measured" { "–" } };
    };
    let (mean, half_width) = cell.digits(column.decimals);
    html! {
        td role="cell" class={ "g" (fold) } data-name=(name) title=(tip(cell, column.decimals)) {
            @if table.is_best(r, c) { b { (mean) } } @else { (mean) }
            @if let Some(half) = half_width { " " span class="half" { "± " (half) } }
            @if let Value::Published(published) = &cell.value {
                sup { (1 + table.sources().iter().position(|s| *s == published.source).unwrap_or(0)) }
            }
        }
    }
}

/// What resting on a figure shows.
fn tip(cell: &Cell, decimals: usize) -> String {
    match &cell.value {
        Value::Published(published) => format!("published figure: {}", published.source),
        Value::Measured(estimate) => match estimate.half_width {
            None => format!("n = {}, no interval", estimate.n),
            Some(half) => {
                let (low, high) = (estimate.mean - half, estimate.mean + half);
                format!("n = {}, 95 % interval {low:.decimals$} to {high:.decimals$}", estimate.n)
            }
        },
    }
}

/// What ± and bold mean and where the numbers are, in a line; notes and sources start closed.
fn legend(table: &Table) -> Markup {
    let remarks = table.remarks();
    let (first, notes) = remarks.split_at(remarks.len() - table.notes.len());
    let has_best = table.columns.iter().any(|column| column.best.is_some());
    let sources = table.sources();
    html! {
        p class="legend" {
            @for remark in first { (remark) " " }
            @if has_best { "Bold: best mean of a column; intervals may overlap. " }
            @for ending in ["csv", "json"] {
                a href={ "tables/" (table.id) "." (ending) } { (ending.to_uppercase()) } " "
            }
        }
        @if !notes.is_empty() || !sources.is_empty() {
            details {
                summary { "Notes" }
                ul class="remarks" {
                    @for note in notes { li { (note) } }
                    @for (i, source) in sources.iter().enumerate() { li { sup { (i + 1) } " " (source) } }
                }
            }
        }
    }
}

/// Positions by name, in the order in which names first appear.
fn gathered(names: impl Iterator<Item = String>) -> Vec<(String, Vec<usize>)> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for (i, name) in names.enumerate() {
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(i),
            None => groups.push((name, vec![i])),
        }
    }
    groups
}
