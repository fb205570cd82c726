//! Charts as SVG: axes, series, reference lines and markers.

use maud::{Markup, html};

use crate::axis::{Ruler, Tick};
use crate::canvas::{Canvas, Px, px, text_width};
use crate::figure::{Chart, Mark, Point, Reference, Series};
use crate::{legend, style};

const WIDTH: f64 = 720.0;
const PLOT_HEIGHT: f64 = 330.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 22.0;
const BOTTOM: f64 = 54.0;

/// A chart: legend above, then the plot with its axes.
pub(crate) fn draw(chart: &Chart, id: &str) -> Canvas {
    let plot = Plot::new(chart);
    let legend = legend::draw(chart, plot.right - plot.left);
    let height = plot.bottom + BOTTOM;
    let clip = format!("{id}-plot");
    let empty = chart.series.iter().all(|series| series.points.is_empty());
    let markup = html! {
        g transform={ "translate(" (Px(plot.left)) " " (Px(TOP)) ")" } { (legend.markup) }
        (axes(&plot, chart))
        clipPath id=(clip) {
            rect x=(Px(plot.left)) y=(Px(plot.top))
                width=(Px(plot.right - plot.left)) height=(Px(plot.bottom - plot.top)) {}
        }
        g clip-path={ "url(#" (clip) ")" } {
            @for (i, line) in chart.references.iter().enumerate() { (reference(&plot, line, i)) }
            @for (i, item) in chart.series.iter().enumerate() { (lines(&plot, item, i)) }
        }
        // Markers are not clipped: one on the edge stays whole.
        @for (i, item) in chart.series.iter().enumerate() { (markers(&plot, item, i)) }
        @for item in &chart.series { @for point in &item.points { (point_label(&plot, point)) } }
        @if empty {
            text class="soft" text-anchor="middle"
                x=(Px((plot.left + plot.right) / 2.0)) y=(Px((plot.top + plot.bottom) / 2.0)) { "no data" }
        }
    };
    Canvas { width: WIDTH, height, markup }
}

/// The chart in a sentence, for its description.
pub(crate) fn words(chart: &Chart) -> String {
    let names = |labels: Vec<&str>| if labels.is_empty() { "none".to_string() } else { labels.join(", ") };
    let series = names(chart.series.iter().map(|series| series.label.as_str()).collect());
    let lines = names(chart.references.iter().map(|line| line.label.as_str()).collect());
    format!(
        "Horizontal axis: {}. Vertical axis: {}. Series: {series}. Reference lines: {lines}.",
        chart.x.title, chart.y.title
    )
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

/// Where the values of a chart fall on the canvas, in pixels.
struct Plot {
    x: Ruler,
    y: Ruler,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Plot {
    fn new(chart: &Chart) -> Self {
        let points = || chart.series.iter().flat_map(|series| &series.points);
        let ends = |p: &Point| [p.y - p.half_width.unwrap_or(0.0), p.y, p.y + p.half_width.unwrap_or(0.0)];
        let levels = chart.references.iter().filter(|line| line.slope == 0.0).map(|line| line.intercept);
        let x = Ruler::new(&chart.x, points().map(|p| p.x));
        let y = Ruler::new(&chart.y, points().flat_map(ends).chain(levels));
        let widest = y.ticks.iter().map(|tick| text_width(&tick.label, 12.0)).fold(0.0, f64::max);
        let left = 38.0 + widest;
        let right = WIDTH - RIGHT;
        let top = TOP + legend::draw(chart, right - left).height + 14.0;
        Self { x, y, left, right, top, bottom: top + PLOT_HEIGHT }
    }

    fn across(&self, x: f64) -> f64 {
        self.left + self.x.at(x) * (self.right - self.left)
    }

    fn down(&self, y: f64) -> f64 {
        self.bottom - self.y.at(y) * (self.bottom - self.top)
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let pairs = points.map(|(x, y)| format!("{} {}", px(self.across(x)), px(self.down(y))));
        format!("M{}", pairs.collect::<Vec<_>>().join("L"))
    }

    fn shows(&self, point: &Point) -> bool {
        let inside = |ruler: &Ruler, v: f64| (-1e-9..=1.0 + 1e-9).contains(&ruler.at(v));
        inside(&self.x, point.x) && inside(&self.y, point.y)
    }
}

fn axes(plot: &Plot, chart: &Chart) -> Markup {
    let Plot { left, right, top, bottom, .. } = *plot;
    let x_mark = |tick: &Tick| {
        let x = plot.across(tick.value);
        html! {
            path class="axis" d={ "M" (Px(x)) " " (Px(bottom)) "v5" } {}
            text text-anchor="middle" x=(Px(x)) y=(Px(bottom + 19.0)) { (tick.label) }
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
        @for tick in &plot.x.ticks { (x_mark(tick)) }
        text class="head" text-anchor="middle"
            x=(Px((left + right) / 2.0)) y=(Px(bottom + 42.0)) { (chart.x.title) }
        text class="head" text-anchor="middle"
            transform={ "translate(16 " (Px(middle)) ") rotate(-90)" } { (chart.y.title) }
    }
}

/// The line is sampled because it bends when one axis is logarithmic.
fn reference(plot: &Plot, line: &Reference, index: usize) -> Markup {
    let xs = (0..=96).map(|i| plot.x.value(f64::from(i) / 96.0));
    let points = xs.map(|x| (x, line.intercept + line.slope * x));
    let points: Vec<_> = points.filter(|&(_, y)| plot.y.admits(y)).collect();
    if points.is_empty() {
        return html! {};
    }
    html! {
        path class="reference" fill="none" stroke="currentColor" stroke-width="1.5"
            stroke-dasharray=(style::dashes(index)) d=(plot.path(points.into_iter())) {
            title { (line.label) }
        }
    }
}

/// The band or bars of a series and its line.
fn lines(plot: &Plot, series: &Series, index: usize) -> Markup {
    let points = &series.points;
    if points.is_empty() {
        return html! {};
    }
    let half = |p: &Point| p.half_width.unwrap_or(0.0);
    let any_interval = points.iter().any(|p| half(p) > 0.0);
    html! {
        g class=(style::color(index)) {
            @if series.mark == Mark::Band && any_interval {
                @let upper = points.iter().map(|p| (p.x, p.y + half(p)));
                @let lower = points.iter().rev().map(|p| (p.x, p.y - half(p)));
                path d={ (plot.path(upper.chain(lower))) "Z" } fill="currentColor" fill-opacity="0.16" {}
            }
            @if series.mark != Mark::Points {
                path d=(plot.path(points.iter().map(|p| (p.x, p.y))))
                    fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" {}
            }
            @if series.mark != Mark::Band && any_interval {
                @for p in points.iter().filter(|p| half(p) > 0.0) {
                    path d=(bar(plot, p)) fill="none" stroke="currentColor" stroke-width="1.2" {}
                }
            }
        }
    }
}

fn markers(plot: &Plot, series: &Series, index: usize) -> Markup {
    html! {
        g class=(style::color(index)) {
            @for p in series.points.iter().filter(|p| plot.shows(p)) {
                path d=(style::marker(index, plot.across(p.x), plot.down(p.y)))
                    fill="currentColor" fill-opacity=[(series.mark == Mark::Points).then_some("0.8")] {
                    title { (tip(series, p)) }
                }
            }
        }
    }
}

/// An interval as a bar with caps.
fn bar(plot: &Plot, point: &Point) -> String {
    let half = point.half_width.unwrap_or(0.0);
    let (x, low, high) = (plot.across(point.x), plot.down(point.y - half), plot.down(point.y + half));
    let (x0, x1) = (px(x - 3.0), px(x + 3.0));
    let (x, low, high) = (px(x), px(low), px(high));
    format!("M{x} {low}V{high}M{x0} {low}H{x1}M{x0} {high}H{x1}")
}

fn tip(series: &Series, point: &Point) -> String {
    let half = point.half_width.map(|half| format!(" ± {}", brief(half))).unwrap_or_default();
    let label = if point.label.is_empty() { String::new() } else { format!(", {}", point.label) };
    format!("{}{label}: ({}, {}{half})", series.label, brief(point.x), brief(point.y))
}

/// The words beside a point, on the side where there is room.
fn point_label(plot: &Plot, point: &Point) -> Markup {
    if point.label.is_empty() || !plot.shows(point) {
        return html! {};
    }
    let (x, y) = (plot.across(point.x), plot.down(point.y));
    let fits = x + 9.0 + text_width(&point.label, 11.0) <= plot.right;
    let (x, anchor) = if fits { (x + 8.0, "start") } else { (x - 8.0, "end") };
    html! { text class="note halo" text-anchor=(anchor) x=(Px(x)) y=(Px(y - 6.0)) { (point.label) } }
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

    #[test]
    fn values_fall_where_the_axes_say() {
        let plot = Plot::new(&chart_of(&[(0.0, 0.1), (10.0, 9.9)], Scale::Linear));
        assert_eq!((plot.across(0.0), plot.across(10.0)), (plot.left, plot.right));
        assert_eq!((plot.down(0.0), plot.down(10.0)), (plot.bottom, plot.top));
        assert_eq!(plot.across(2.5), plot.left + 0.25 * (plot.right - plot.left));
        let plot = Plot::new(&chart_of(&[(0.011, 0.2), (99.0, 99.8)], Scale::Log));
        // log10 of 1 is half way between those of 0.01 and 100; rounding moves it by far less than a pixel.
        assert!((plot.across(1.0) - (plot.left + plot.right) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn an_interval_that_reaches_below_a_log_axis_stays_drawable() {
        let mut chart = chart_of(&[(1.0, 0.05), (10.0, 5.0)], Scale::Log);
        for mark in [Mark::Band, Mark::Path, Mark::Points] {
            chart.series[0].mark = mark;
            let text = draw(&chart, "F1").markup.into_string();
            assert!(!text.contains("NaN") && !text.contains("inf"));
        }
    }

    #[test]
    fn the_legend_stands_above_the_plot_however_long() {
        let mut chart = chart_of(&[(0.0, 0.0), (1.0, 1.0)], Scale::Linear);
        let one = Plot::new(&chart);
        chart
            .series
            .extend((0..12).map(|i| Series { label: format!("a long name {i}"), ..Series::default() }));
        let many = Plot::new(&chart);
        let legend = legend::draw(&chart, many.right - many.left);
        assert!(legend.height > 20.0 && TOP + legend.height < many.top);
        assert!(many.top > one.top && many.bottom - many.top == one.bottom - one.top);
    }

    #[test]
    fn every_point_inside_has_a_marker_and_a_tip() {
        let mut chart = chart_of(&[(0.0, 0.0), (1.0, 0.123_456), (2.0, 9.0)], Scale::Linear);
        chart.y.range = Some((0.0, 1.0));
        let text = draw(&chart, "F1").markup.into_string();
        assert!(text.contains("s: (0, 0 ± 0.1)") && text.contains("s: (1, 0.1235 ± 0.1)"));
        assert!(!text.contains("s: (2, 9"), "a point beyond the given range is not drawn at its edge");
        assert!(text.contains("y = x"));
    }

    #[test]
    fn short_numbers_have_four_significant_digits() {
        let shown = [0.0, 78.0, 0.043_219, -1234.5, 100.0, 1e-9, 2.5e12].map(brief);
        assert_eq!(shown, ["0", "78", "0.04322", "-1234", "100", "1.000e-9", "2.500e12"]);
    }
}
