//! Legends of charts, in rows above the plot.

use maud::{Markup, html};

use crate::canvas::{Canvas, Px, shorten, text_width};
use crate::figure::{Chart, Mark};
use crate::style;

const SIZE: f64 = 12.0;
const SWATCH: f64 = 26.0;
const MARKER: f64 = 10.0;
const GAP: f64 = 18.0;
const LINE: f64 = 20.0;

/// The legend of a chart in lines of at most `width` pixels. It stands above the plot, so that it hides no data.
pub(crate) fn draw(chart: &Chart, width: f64) -> Canvas {
    let series = chart.series.iter().enumerate().map(|(i, s)| {
        let room = if s.mark == Mark::Points { MARKER } else { SWATCH };
        (s.label.as_str(), room, series_swatch(i, s.mark, room))
    });
    let references =
        chart.references.iter().enumerate().map(|(i, r)| (r.label.as_str(), SWATCH, reference_swatch(i)));
    let (mut x, mut y, mut entries) = (0.0, 0.0, Vec::new());
    for (label, room, swatch) in series.chain(references).filter(|entry| !entry.0.is_empty()) {
        let short = shorten(label, SIZE, width - room - 6.0);
        let own = room + 6.0 + text_width(&short, SIZE);
        if x > 0.0 && x + own > width {
            (x, y) = (0.0, y + LINE);
        }
        entries.push(html! {
            g transform={ "translate(" (Px(x)) " " (Px(y)) ")" } {
                (swatch)
                text x=(Px(room + 6.0)) y="14" { (short) }
                @if short != label { title { (label) } }
            }
        });
        x += own + GAP;
    }
    let height = if entries.is_empty() { 0.0 } else { y + LINE };
    Canvas { width, height, markup: html! { @for entry in &entries { (entry) } } }
}

fn series_swatch(index: usize, mark: Mark, room: f64) -> Markup {
    html! {
        g class=(style::color(index)) {
            @if mark != Mark::Points {
                path d={ "M0 10H" (Px(SWATCH)) } stroke="currentColor" stroke-width="2" {}
            }
            path d=(style::marker(index, room / 2.0, 10.0)) fill="currentColor" {}
        }
    }
}

fn reference_swatch(index: usize) -> Markup {
    html! {
        path class="reference" d={ "M0 10H" (Px(SWATCH)) }
            stroke="currentColor" stroke-width="1.5" stroke-dasharray=(style::dashes(index)) {}
    }
}
