//! The HTML page of a report, in one file without scripts.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::canvas::printable;
use crate::chart::brief;
use crate::{Cell, Chart, Drawing, Figure, Provenance, Report, Table, Value, svg};

/// `index.html`: the whole report as one page without scripts and without any file beside it.
///
/// Tables and figures come in the order given; the best of each column is bold, and resting on a figure shows
/// its interval and n. The page follows the reader's choice of light or dark.
pub fn page(report: &Report) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                (header(report))
                main {
                    @for item in &report.tables { (table(item)) }
                    @for item in &report.figures { (figure(item)) }
                    (provenance(&report.provenance))
                }
            }
        }
    };
    printable(markup.into_string()) + "\n"
}

fn header(report: &Report) -> Markup {
    html! {
        header {
            h1 { (report.title) }
            @for finding in &report.findings { p { (finding) } }
            (inequality())
            nav aria-label="Tables and figures" {
                @for item in &report.tables { a href={ "#" (item.id) } { (item.id) ". " (item.title) } }
                @for item in &report.figures { a href={ "#" (item.id) } { (item.id) ". " (item.title) } }
                a href="#provenance" { "Provenance" }
            }
        }
    }
}

/// The bound that every table is about, each term over its meaning.
fn inequality() -> Markup {
    let term = |sign: &str, formula: Markup, words: &str| {
        html! {
            span class="term" {
                @if !sign.is_empty() { span class="sign" { (sign) } }
                span class="words" { span class="formula" { (formula) } small { (words) } }
            }
        }
    };
    let attacked = html! { i { "L" } sub { "adv" } "(" i { "h" } "∘" i { "f" } ")" };
    let clean = html! { i { "L" } "(" i { "h" } "∘" i { "f" } ")" };
    let constant = html! { i { "C" } "(" i { "h" } ")" };
    let regularizer = html! { i { "R" } "(" i { "f" } ")" };
    html! {
        div class="bound" {
            (term("", attacked, "loss under attack, of any head h"))
            (term("≤", clean, "loss on clean inputs"))
            (term("+", constant, "how steep the head is"))
            (term("·", regularizer, "how far an attack moves the encoder f"))
        }
        p {
            "Here "
            i { "R" } "(" i { "f" } ") = E" sub { i { "x" } } " max" sub { i { "x" } "′ ∈ " i { "B" } "(" i { "x" } ")" } " "
            i { "D" } "(" i { "f" } "(" i { "x" } "), " i { "f" } "(" i { "x" } "′)), the mean over inputs "
            i { "x" } " of the largest displacement " i { "D" } " of the representation within the ball "
            i { "B" } "(" i { "x" } ") of radius ε. It contains no label and no task: an encoder with a small "
            i { "R" } " is robust under every head whose " i { "C" } " is moderate, whatever the task."
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        section id=(table.id) {
            h2 { span class="id" { (table.id) } (table.title) }
            @if !table.caption.is_empty() { p class="question" { (table.caption) } }
            @if table.folded {
                details { summary { "All " (table.rows.len()) " rows" } (body(table)) }
            } @else { (body(table)) }
            (remarks(table))
        }
    }
}

fn body(table: &Table) -> Markup {
    let groups = table.groups();
    let grouped = groups.iter().any(|(name, _)| !name.is_empty());
    html! {
        div class="scroll" tabindex="0" role="region" aria-label={ (table.id) ". " (table.title) } {
            table {
                thead {
                    @if grouped {
                        tr {
                            th class="stub" {}
                            @for (name, width) in &groups {
                                @if name.is_empty() { th colspan=(width) {} }
                                @else { th class="group" scope="colgroup" colspan=(width) { span { (name) } } }
                            }
                        }
                    }
                    tr {
                        th class="stub" scope="col" { (table.stub) }
                        @for column in &table.columns { th scope="col" { (column.label) } }
                    }
                }
                tbody {
                    @for (r, row) in table.rows.iter().enumerate() {
                        tr {
                            th scope="row" { (row.label) }
                            @for (c, cell) in row.cells.iter().enumerate() {
                                (entry(cell.as_ref(), table.columns[c].decimals, table.is_best(r, c)))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn entry(cell: Option<&Cell>, decimals: usize, best: bool) -> Markup {
    let Some(cell) = cell else { return html! { td title="not measured" { "–" } } };
    let (mean, half_width) = cell.digits(decimals);
    html! {
        td title=(tip(cell, decimals)) {
            @if best { b { (mean) } } @else { (mean) }
            @if let Some(half) = half_width { span class="half" { " ± " (half) } }
            @if let Value::Published(published) = &cell.value {
                " " span class="source" { "(" (published.source) ")" }
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

fn remarks(table: &Table) -> Markup {
    let has_best = table.columns.iter().any(|column| column.best.is_some());
    let bold = "Bold: best mean of a column; intervals may overlap.";
    html! {
        ul class="remarks" {
            @for remark in table.remarks() { li { (remark) } }
            @if has_best { li { (bold) } }
        }
    }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        section id=(figure.id) {
            h2 { span class="id" { (figure.id) } (figure.title) }
            figure {
                figcaption { p class="question" { (figure.caption) } }
                div class="canvas" { (PreEscaped(svg::draw(figure))) }
            }
            @if let Drawing::Chart(chart) = &figure.drawing { (points(chart)) }
        }
    }
}

/// The numbers behind a chart, for those who read rather than look.
fn points(chart: &Chart) -> Markup {
    html! {
        details {
            summary { "Numbers" }
            div class="scroll" tabindex="0" {
                table {
                    thead {
                        tr {
                            th class="stub" scope="col" { "series" }
                            th scope="col" { (chart.x.title) }
                            th scope="col" { (chart.y.title) }
                            th scope="col" { "±" }
                        }
                    }
                    tbody {
                        @for series in &chart.series {
                            @for point in &series.points {
                                tr {
                                    th scope="row" {
                                        (series.label)
                                        @if !point.label.is_empty() { ", " (point.label) }
                                    }
                                    td { (brief(point.x)) }
                                    td { (brief(point.y)) }
                                    td { (point.half_width.map_or("–".to_string(), brief)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn provenance(item: &Provenance) -> Markup {
    let seeds: Vec<String> = item.seeds.iter().map(u64::to_string).collect();
    let seeds = seeds.join(", ");
    let facts = [("Version", &item.version), ("Machine", &item.machine), ("Seeds", &seeds)];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    html! {
        section id="provenance" {
            h2 { "Provenance" }
            dl {
                @for (name, value) in facts { dt { (name) } dd { (value) } }
                @for (name, value) in &item.facts { dt { (name) } dd { (value) } }
                dt { "Files" }
                dd {
                    @for (i, file) in ["results.csv", "results.json", "tables.md", "tables.tex"].iter().enumerate() {
                        @if i > 0 { ", " }
                        a href=(file) { (file) }
                    }
                }
            }
            @if !item.command.is_empty() {
                h3 { "How to reproduce" }
                pre { code { (item.command) } }
                p class="soft" {
                    "The same version and seeds give the same numbers on the same kind of device, for any number of threads."
                }
            }
            @if !item.jobs.is_empty() {
                details {
                    summary { "Jobs (" (item.jobs.len()) ")" }
                    dl { @for job in &item.jobs { dt { code { (job.key) } } dd { (job.title) } } }
                }
            }
        }
    }
}
