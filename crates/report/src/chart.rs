//! Charts as SVG: panels with axes, series, reference lines and markers under one legend.

use maud::{Markup, html};

use crate::axis::Tick;
use crate::canvas::{Canvas, Px, Size, px, text_width};
use crate::figure::{Chart, Mark, Point, Reference, Series};
use crate::label;
use crate::legend::Legend;
use crate::plot::Plot;
use crate::style::Look;

const TOP: f64 = 12.0;
const RIGHT: f64 = 22.0;
const HEADING: f64 = 24.0;
const BOTTOM: f64 = 54.0;
/// Between rows of panels.
const GAP: f64 = 16.0;
/// From this many series on, only the subject shows its intervals; the numbers have them all.
const CROWD: usize = 9;

/// The charts of a figure: one legend above, then the panels, each under its heading.
pub(crate) fn draw(charts: &[(&str, &Chart)], id: &str, subject: &str, size: Size) -> Canvas {
    let legend = Legend::of(charts, subject);
    let layout = Layout::new(charts.len(), size);
    let key = legend.draw(layout.width - 2.0 * RIGHT);
    let headed = charts.iter().any(|(heading, _)| !heading.is_empty());
    let heading = if headed { HEADING } else { 0.0 };
    let row = heading + layout.plot_height + BOTTOM + GAP;
    let first = TOP + key.height + 14.0;
    let corner =
        |i: usize| ((i % layout.columns) as f64 * layout.panel, first + (i / layout.columns) as f64 * row);
    let markup = html! {
        g transform={ "translate(" (Px(RIGHT)) " " (Px(TOP)) ")" } { (key.markup) }
        @for (i, (name, chart)) in charts.iter().enumerate() {
            @let (left, top) = corner(i);
            @let across = [left, left + layout.panel - RIGHT];
            @let plot = Plot::new(chart, across, [top + heading, top + heading + layout.plot_height]);
            @if !name.is_empty() {
                text class="head strong" text-anchor="middle"
                    x=(Px((plot.left + plot.right) / 2.0)) y=(Px(top + 11.0)) { (name) }
            }
            (panel(chart, &plot, &legend, &format!("{id}-plot-{i}"), left))
        }
    };
    let rows = charts.len().div_ceil(layout.columns);
    Canvas { width: layout.width, height: first + rows as f64 * row - GAP, markup }
}

/// The charts in a sentence each, for their description.
pub(crate) fn words(charts: &[(&str, &Chart)]) -> String {
    let names = |labels: Vec<&str>| if labels.is_empty() { "none".to_string() } else { labels.join(", ") };
    let sentence = |(heading, chart): &(&str, &Chart)| {
        let series = names(chart.series.iter().map(|series| series.label.as_str()).collect());
        let lines = names(chart.references.iter().map(|line| line.label.as_str()).collect());
        let heading = if heading.is_empty() { String::new() } else { format!("{heading}. ") };
        let [x, y] = [&chart.x.title, &chart.y.title];
        format!(
            "{heading}Horizontal axis: {x}. Vertical axis: {y}. Series: {series}. Reference lines: {lines}."
        )
    };
    charts.iter().map(sentence).collect::<Vec<_>>().join(" ")
}

/// A number for tool tips and data lists: four significant digits, no trailing zeros.
pub(crate) fn brief(value: f64) -> String {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if !(-5..9).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.*}", (3 - magnitude).max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// How panels are arranged, in pixels.
struct Layout {
    width: f64,
    columns: usize,
    panel: f64,
    plot_height: f64,
}

impl Layout {
    fn new(panels: usize, size: Size) -> Self {
        let (width, columns, plot_height) = match (size, panels) {
            (Size::Narrow, _) => (360.0, 1, 250.0),
            (Size::Wide, 0 | 1) => (720.0, 1, 330.0),
            (Size::Wide, 2 | 4) => (960.0, 2, 320.0),
            (Size::Wide, _) => (1080.0, 3, 280.0),
        };
        Self { width, columns, panel: width / columns as f64, plot_height }
    }
}

fn panel(chart: &Chart, plot: &Plot, legend: &Legend<'_>, clip: &str, edge: f64) -> Markup {
    let mut series: Vec<(&Series, &Look)> =
        chart.series.iter().map(|series| (series, legend.look(&series.label, series.mark))).collect();
    series.sort_by_key(|(_, look)| look.own);
    let empty = chart.series.iter().all(|series| series.points.is_empty());
    html! {
        (axes(plot, chart, edge))
        clipPath id=(clip) {
            rect x=(Px(plot.left)) y=(Px(plot.top))
                width=(Px(plot.right - plot.left)) height=(Px(plot.bottom - plot.top)) {}
        }
        g clip-path={ "url(#" (clip) ")" } {
            @for line in &chart.references { (reference(plot, line, legend.dashes(&line.label))) }
            @for (item, look) in &series { (lines(plot, item, look, look.own || legend.len() < CROWD)) }
        }
        // Markers are not clipped: one on the edge stays whole.
        @for (item, look) in &series { (markers(plot, item, look)) }
        @for label in label::place(chart, plot) {
            text class="note halo" text-anchor=(label.anchor) x=(Px(label.x)) y=(Px(label.y)) { (label.text) }
        }
        @if empty {
            text class="soft" text-anchor="middle"
                x=(Px((plot.left + plot.right) / 2.0)) y=(Px((plot.top + plot.bottom) / 2.0)) { "no data" }
        }
    }
}

fn axes(plot: &Plot, chart: &Chart, edge: f64) -> Markup {
    let Plot { left, right, top, bottom, .. } = *plot;
    let x_mark = |tick: &Tick, named: bool| {
        let x = plot.across(tick.value);
        html! {
            path class="axis" d={ "M" (Px(x)) " " (Px(bottom)) "v5" } {}
            @if named { text text-anchor="middle" x=(Px(x)) y=(Px(bottom + 19.0)) { (tick.label) } }
        }
    };
    let y_mark = |tick: &Tick| {
        let y = plot.down(tick.value);
        html! {
            path class="rule" d={ "M" (Px(left)) " " (Px(y)) "H" (Px(right)) } {}
            text text-anchor="end" x=(Px(left - 8.0)) y=(Px(y + 4.0)) { (tick.label) }
        }
    };
    let middle = (top + bottom) / 2.0;
    html! {
        @for tick in &plot.y.ticks { (y_mark(tick)) }
        path class="axis" fill="none"
            d={ "M" (Px(left)) " " (Px(top)) "V" (Px(bottom)) "H" (Px(right)) } {}
        @for (tick, named) in plot.x.ticks.iter().zip(legible(plot)) { (x_mark(tick, named)) }
        text class="head" text-anchor="middle"
            x=(Px((left + right) / 2.0)) y=(Px(bottom + 42.0)) { (chart.x.title) }
        text class="head" text-anchor="middle"
            transform={ "translate(" (Px(edge + 16.0)) " " (Px(middle)) ") rotate(-90)" } { (chart.y.title) }
    }
}

/// Which ticks of the horizontal axis have room for their label beside the last one that has.
fn legible(plot: &Plot) -> Vec<bool> {
    let mut free = f64::NEG_INFINITY;
    let room = |tick: &Tick| {
        let (x, half) = (plot.across(tick.value), 0.5 * text_width(&tick.label, 12.0));
        let fits = x - half >= free;
        free = if fits { x + half + 4.0 } else { free };
        fits
    };
    plot.x.ticks.iter().map(room).collect()
}

/// The line is sampled because it bends when one axis is logarithmic.
fn reference(plot: &Plot, line: &Reference, dashes: &str) -> Markup {
    let xs = (0..=96).map(|i| plot.x.value(f64::from(i) / 96.0));
    let points = xs.map(|x| (x, line.intercept + line.slope * x));
    let points: Vec<_> = points.filter(|&(_, y)| plot.y.admits(y)).collect();
    if points.is_empty() {
        return html! {};
    }
    html! {
        path class="reference" fill="none" stroke="currentColor" stroke-width="1.5"
            stroke-dasharray=(dashes) d=(plot.path(points.into_iter())) {
            title { (line.label) }
        }
    }
}

/// The line of a series, and its band or bars where `intervals` are drawn.
fn lines(plot: &Plot, series: &Series, look: &Look, intervals: bool) -> Markup {
    let points = &series.points;
    if points.is_empty() {
        return html! {};
    }
    let half = |p: &Point| p.half_width.unwrap_or(0.0);
    let end = |p: &Point, half: f64| (p.x, plot.y.clamp(p.y + half));
    let intervals = intervals && points.iter().any(|p| half(p) > 0.0);
    html! {
        g class=(look.color) {
            @if series.mark == Mark::Band && intervals {
                @let upper = points.iter().map(|p| end(p, half(p)));
                @let lower = points.iter().rev().map(|p| end(p, -half(p)));
                path d={ (plot.path(upper.chain(lower))) "Z" } fill="currentColor"
                    fill-opacity=(if look.own { "0.2" } else { "0.1" }) {}
            }
            @if series.mark != Mark::Points {
                path d=(plot.path(points.iter().map(|p| (p.x, p.y)))) fill="none" stroke="currentColor"
                    stroke-width=(look.line) stroke-dasharray=[look.dashes] stroke-linejoin="round" {}
            }
            @if series.mark != Mark::Band && intervals {
                @for p in points.iter().filter(|p| half(p) > 0.0) {
                    path d=(bar(plot, p)) fill="none" stroke="currentColor" stroke-width="1.2" {}
                }
            }
        }
    }
}

fn markers(plot: &Plot, series: &Series, look: &Look) -> Markup {
    html! {
        g class=(look.color) {
            @for p in series.points.iter().filter(|p| series.mark != Mark::Line && plot.shows(p)) {
                path d=(look.marker(plot.across(p.x), plot.down(p.y)))
                    fill="currentColor" fill-opacity=[(series.mark == Mark::Points).then_some("0.8")] {
                    title { (tip(series, p)) }
                }
            }
        }
    }
}

/// An interval as a bar with caps, which ends with the axis: per cent may be limited where an interval is not.
fn bar(plot: &Plot, point: &Point) -> String {
    let half = point.half_width.unwrap_or(0.0);
    let end = |y: f64| plot.down(plot.y.clamp(y));
    let (x, low, high) = (plot.across(point.x), end(point.y - half), end(point.y + half));
    let (x0, x1) = (px(x - 3.0), px(x + 3.0));
    let (x, low, high) = (px(x), px(low), px(high));
    format!("M{x} {low}V{high}M{x0} {low}H{x1}M{x0} {high}H{x1}")
}

fn tip(series: &Series, point: &Point) -> String {
    let half = point.half_width.map(|half| format!(" ± {}", brief(half))).unwrap_or_default();
    let label = if point.label.is_empty() { String::new() } else { format!(", {}", point.label) };
    format!("{}{label}: ({}, {}{half})", series.label, brief(point.x), brief(point.y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Scale};

    fn chart_of(points: &[(f64, f64)], scale: Scale) -> Chart {
        let points = points.iter().map(|&(x, y)| Point { x, y, half_width: Some(0.1), ..Point::default() });
        Chart {
            x: Axis { scale, ..Axis::default() },
            y: Axis { scale, ..Axis::default() },
            series: vec![Series { label: "s".into(), points: points.collect(), ..Series::default() }],
            references: vec![Reference::identity("y = x")],
        }
    }

    fn text(charts: &[(&str, &Chart)], subject: &str) -> String {
        draw(charts, "F1", subject, Size::Wide).markup.into_string()
    }

    #[test]
    fn an_interval_that_reaches_below_a_log_axis_stays_drawable() {
        let mut chart = chart_of(&[(1.0, 0.05), (10.0, 5.0)], Scale::Log);
        for mark in [Mark::Band, Mark::Path, Mark::Points] {
            chart.series[0].mark = mark;
            let text = text(&[("", &chart)], "");
            assert!(!text.contains("NaN") && !text.contains("inf"));
        }
    }

    #[test]
    fn the_legend_stands_above_the_plot_however_long() {
        let mut chart = chart_of(&[(0.0, 0.0), (1.0, 1.0)], Scale::Linear);
        let height = |chart: &Chart| draw(&[("", chart)], "F1", "", Size::Wide).height;
        let key = |chart: &Chart| Legend::of(&[("", chart)], "").draw(720.0 - 2.0 * RIGHT).height;
        let (one, short) = (height(&chart), key(&chart));
        let names = (0..12).map(|i| Series { label: format!("a long name {i}"), ..Series::default() });
        chart.series.extend(names);
        assert!(key(&chart) > short && height(&chart) - one == key(&chart) - short);
    }

    #[test]
    fn every_point_inside_has_a_marker_and_a_tip() {
        let mut chart = chart_of(&[(0.0, 0.0), (1.0, 0.123_456), (2.0, 9.0)], Scale::Linear);
        chart.y.range = Some((0.0, 1.0));
        let text = text(&[("", &chart)], "");
        assert!(text.contains("s: (0, 0 ± 0.1)") && text.contains("s: (1, 0.1235 ± 0.1)"));
        assert!(!text.contains("s: (2, 9"), "a point beyond the given range is not drawn at its edge");
        assert!(text.contains("y = x"));
    }

    #[test]
    fn panels_share_a_legend_and_the_subject_is_drawn_over_the_others() {
        let mut chart = chart_of(&[(0.0, 0.0), (1.0, 1.0)], Scale::Linear);
        chart.series.push(Series { label: "other".into(), ..chart.series[0].clone() });
        let text = text(&[("ε = 0.05", &chart), ("ε = 0.1", &chart)], "s");
        for (what, count) in
            [(">ε = 0.05</text>", 1), (">ε = 0.1</text>", 1), (">other</text>", 1), ("<clipPath", 2)]
        {
            assert_eq!(text.matches(what).count(), count, "{what}");
        }
        // Each panel has a group of lines and one of markers for each series, and the legend one.
        assert_eq!(text.matches("class=\"own\"").count(), 5);
        assert!(text.rfind("class=\"own\"") > text.rfind("class=\"c0\""), "the subject comes last");
    }

    #[test]
    fn labels_of_ticks_do_not_touch_on_a_narrow_axis() {
        let chart = chart_of(&[(1e-4, 1.0), (1.0, 2.0)], Scale::Log);
        let plot = |width| Plot::new(&chart, [0.0, width], [0.0, 250.0]);
        let named = |width| legible(&plot(width)).into_iter().filter(|&named| named).count();
        assert!(named(120.0) >= 1 && named(120.0) < named(720.0));
    }

    #[test]
    fn short_numbers_have_four_significant_digits() {
        let shown = [0.0, 78.0, 0.043_219, -1234.5, 100.0, 1e-9, 2.5e12].map(brief);
        assert_eq!(shown, ["0", "78", "0.04322", "-1234", "100", "1.000e-9", "2.500e12"]);
    }
}
