//! Details at the end of the page: the inequality, tables of detail, and where the numbers come from.

use maud::{Markup, html};

use super::table;
use crate::{Provenance, Report, Table};

/// The last part of the page.
pub(super) fn section(report: &Report, tables: &[&Table]) -> Markup {
    html! {
        (inequality())
        @for item in tables { (table::section(item, &report.subject)) }
        (provenance(&report.provenance))
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
        section {
            h2 { "The bound" }
            div class="bound" {
                (term("", attacked, "loss under attack, of any head h"))
                (term("≤", clean, "loss on clean inputs"))
                (term("+", constant, "how steep the head is"))
                (term("·", regularizer, "how far an attack moves the encoder f"))
            }
            details {
                summary { "What the letters mean" }
                p {
                    i { "R" } "(" i { "f" } ") = E" sub { i { "x" } } " max" sub { i { "x" } "′ ∈ " i { "B" } "(" i { "x" } ")" } " "
                    i { "D" } "(" i { "f" } "(" i { "x" } "), " i { "f" } "(" i { "x" } "′)) is the mean over inputs "
                    i { "x" } " of the largest displacement " i { "D" } " of the representation within the ball "
                    i { "B" } "(" i { "x" } ") of radius ε. It contains no label and no task: an encoder with a small "
                    i { "R" } " is robust under every head whose " i { "C" } " is moderate, whatever the task."
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
            @if !item.command.is_empty() {
                p {
                    code { (item.command) } " makes this report. The same version and seeds give the same numbers on the \
                     same kind of device, for any number of threads."
                }
            }
            p {
                "All numbers: "
                @for (i, file) in ["results.csv", "results.json", "tables.md", "tables.tex"].iter().enumerate() {
                    @if i > 0 { ", " }
                    a href=(file) { (file) }
                }
            }
            details {
                summary { "Machine and configuration" }
                dl {
                    @for (name, value) in facts { dt { (name) } dd { (value) } }
                    @for (name, value) in &item.facts { dt { (name) } dd { (value) } }
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
