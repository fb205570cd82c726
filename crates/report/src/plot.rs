//! Plot area of a chart: where values fall on the canvas, in pixels.

use crate::axis::Ruler;
use crate::canvas::{px, text_width};
use crate::figure::{Chart, Point};

/// A rectangle on a canvas with a ruler along each side.
pub(crate) struct Plot {
    pub(crate) x: Ruler,
    pub(crate) y: Ruler,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

impl Plot {
    /// The plot of `chart` from `left` to `right` and `top` to `bottom`, of which the labels of the vertical axis take their
    /// part at the left.
    pub(crate) fn new(chart: &Chart, [left, right]: [f64; 2], [top, bottom]: [f64; 2]) -> Self {
        let points = || chart.series.iter().flat_map(|series| &series.points);
        let ends = |p: &Point| [p.y - p.half_width.unwrap_or(0.0), p.y, p.y + p.half_width.unwrap_or(0.0)];
        let levels = chart.references.iter().filter(|line| line.slope == 0.0).map(|line| line.intercept);
        let x = Ruler::new(&chart.x, points().map(|p| p.x));
        let y = Ruler::new(&chart.y, points().flat_map(ends).chain(levels));
        let widest = y.ticks.iter().map(|tick| text_width(&tick.label, 12.0)).fold(0.0, f64::max);
        Self { x, y, left: left + 38.0 + widest, right, top, bottom }
    }

    pub(crate) fn across(&self, x: f64) -> f64 {
        self.left + self.x.at(x) * (self.right - self.left)
    }

    pub(crate) fn down(&self, y: f64) -> f64 {
        self.bottom - self.y.at(y) * (self.bottom - self.top)
    }

    /// The `d` of a path through points of the chart.
    pub(crate) fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let pairs = points.map(|(x, y)| format!("{} {}", px(self.across(x)), px(self.down(y))));
        format!("M{}", pairs.collect::<Vec<_>>().join("L"))
    }

    /// Whether a point lies on the plot.
    pub(crate) fn shows(&self, point: &Point) -> bool {
        let inside = |ruler: &Ruler, v: f64| (-1e-9..=1.0 + 1e-9).contains(&ruler.at(v));
        inside(&self.x, point.x) && inside(&self.y, point.y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Scale, Series};

    fn plot(points: &[(f64, f64)], scale: Scale) -> Plot {
        let points = points.iter().map(|&(x, y)| Point { x, y, half_width: Some(0.1), ..Point::default() });
        let axis = || Axis { scale, ..Axis::default() };
        let series = vec![Series { points: points.collect(), ..Series::default() }];
        Plot::new(
            &Chart { x: axis(), y: axis(), series, references: Vec::new() },
            [0.0, 700.0],
            [50.0, 380.0],
        )
    }

    #[test]
    fn values_fall_where_the_axes_say() {
        let linear = plot(&[(0.0, 0.1), (10.0, 9.9)], Scale::Linear);
        assert_eq!((linear.across(0.0), linear.across(10.0)), (linear.left, linear.right));
        assert_eq!((linear.down(0.0), linear.down(10.0)), (linear.bottom, linear.top));
        assert_eq!(linear.across(2.5), linear.left + 0.25 * (linear.right - linear.left));
        let log = plot(&[(0.011, 0.2), (99.0, 99.8)], Scale::Log);
        // log10 of 1 is half way between those of 0.01 and 100; rounding moves it by far less than a pixel.
        assert!((log.across(1.0) - (log.left + log.right) / 2.0).abs() < 1e-6);
    }
}
