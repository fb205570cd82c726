//! Legends of charts, in rows above the plots.

use maud::{Markup, html};

use crate::canvas::{Canvas, Px, shorten, text_width};
use crate::figure::{Chart, Mark};
use crate::style::{self, Look};

const SIZE: f64 = 12.0;
const SWATCH: f64 = 26.0;
const MARKER: f64 = 12.0;
const GAP: f64 = 18.0;
const LINE: f64 = 20.0;

/// The labels of a figure with their looks; a label of several panels is named once and looks the same in all.
pub(crate) struct Legend<'a> {
    series: Vec<(&'a str, Mark, Look)>,
    references: Vec<&'a str>,
}

impl<'a> Legend<'a> {
    /// The legend of `charts`; the series called `subject` is emphasized.
    pub(crate) fn of(charts: &[(&'a str, &'a Chart)], subject: &str) -> Self {
        let mut legend = Self { series: Vec::new(), references: Vec::new() };
        let mut others = 0;
        for (_, chart) in charts {
            for series in &chart.series {
                let known = |(label, mark, _): &(&str, Mark, Look)| {
                    (*label, *mark) == (series.label.as_str(), series.mark)
                };
                if !legend.series.iter().any(known) {
                    let own = !subject.is_empty() && series.label == subject;
                    legend.series.push((&series.label, series.mark, style::look(others, own)));
                    others += usize::from(!own);
                }
            }
            for line in &chart.references {
                if !legend.references.contains(&line.label.as_str()) {
                    legend.references.push(&line.label);
                }
            }
        }
        legend
    }

    /// How the series with that label and mark is drawn.
    pub(crate) fn look(&self, label: &str, mark: Mark) -> &Look {
        let found = self.series.iter().find(|series| (series.0, series.1) == (label, mark));
        &found.expect("every series of the charts is in their legend").2
    }

    /// Dashes of the reference line with that label.
    pub(crate) fn dashes(&self, label: &str) -> &'static str {
        style::dashes(self.references.iter().position(|&known| known == label).unwrap_or(0))
    }

    /// How many series it names.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// The legend in lines of at most `width` pixels. It stands above the plots, so that it hides no data.
    pub(crate) fn draw(&self, width: f64) -> Canvas {
        let series = self.series.iter().map(|(label, mark, look)| {
            let room = if *mark == Mark::Points { MARKER } else { SWATCH };
            (*label, room, look.own, series_swatch(look, *mark, room))
        });
        let references = self.references.iter().enumerate();
        let references = references.map(|(i, &label)| (label, SWATCH, false, reference_swatch(i)));
        let (mut x, mut y, mut entries) = (0.0, 0.0, Vec::new());
        for (label, room, own, swatch) in series.chain(references).filter(|entry| !entry.0.is_empty()) {
            // Bold letters are about a tenth wider.
            let size = if own { 1.1 * SIZE } else { SIZE };
            let short = shorten(label, size, width - room - 6.0);
            let taken = room + 6.0 + text_width(&short, size);
            if x > 0.0 && x + taken > width {
                (x, y) = (0.0, y + LINE);
            }
            entries.push(html! {
                g transform={ "translate(" (Px(x)) " " (Px(y)) ")" } {
                    (swatch)
                    text class=[own.then_some("strong")] x=(Px(room + 6.0)) y="14" { (short) }
                    @if short != label { title { (label) } }
                }
            });
            x += taken + GAP;
        }
        let height = if entries.is_empty() { 0.0 } else { y + LINE };
        Canvas { width, height, markup: html! { @for entry in &entries { (entry) } } }
    }
}

fn series_swatch(look: &Look, mark: Mark, room: f64) -> Markup {
    html! {
        g class=(look.color) {
            @if mark != Mark::Points {
                path d={ "M0 10H" (Px(SWATCH)) } stroke="currentColor" stroke-width=(look.line)
                    stroke-dasharray=[look.dashes] {}
            }
            @if mark != Mark::Line {
                path d=(look.marker(room / 2.0, 10.0)) fill="currentColor" {}
            }
        }
    }
}

fn reference_swatch(index: usize) -> Markup {
    html! {
        path class="reference" d={ "M0 10H" (Px(SWATCH)) }
            stroke="currentColor" stroke-width="1.5" stroke-dasharray=(style::dashes(index)) {}
    }
}
