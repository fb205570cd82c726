//! Labels of points, set where they cover nothing.

use crate::canvas::text_width;
use crate::figure::Chart;
use crate::plot::Plot;

const SIZE: f64 = 11.0;
/// From the point to its label, and half of what a marker takes.
const AWAY: f64 = 8.0;
const MARKER: f64 = 5.0;

/// A label with the anchor of its text and where it stands.
pub(crate) struct Label<'a> {
    pub(crate) text: &'a str,
    pub(crate) anchor: &'static str,
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// The labels of all points of `chart` that find a free place beside their point; the others are left to the tool tips.
pub(crate) fn place<'a>(chart: &'a Chart, plot: &Plot) -> Vec<Label<'a>> {
    let points = || chart.series.iter().flat_map(|series| &series.points).filter(|point| plot.shows(point));
    let mut taken: Vec<Area> = points()
        .map(|point| {
            let (x, y) = (plot.across(point.x), plot.down(point.y));
            Area { x: [x - MARKER, x + MARKER], y: [y - MARKER, y + MARKER] }
        })
        .collect();
    let mut labels = Vec::new();
    for point in points().filter(|point| !point.label.is_empty()) {
        let (x, y) = (plot.across(point.x), plot.down(point.y));
        let width = text_width(&point.label, SIZE);
        let places = [(1.0, -6.0), (-1.0, -6.0), (1.0, 14.0), (-1.0, 14.0)];
        for (side, below) in places {
            let (x, y) = (x + side * AWAY, y + below);
            let area =
                Area { x: if side > 0.0 { [x, x + width] } else { [x - width, x] }, y: [y - SIZE, y + 2.0] };
            if area.inside(plot) && !taken.iter().any(|other| area.meets(other)) {
                let anchor = if side > 0.0 { "start" } else { "end" };
                labels.push(Label { text: &point.label, anchor, x, y });
                taken.push(area);
                break;
            }
        }
    }
    labels
}

/// A rectangle on the canvas.
struct Area {
    x: [f64; 2],
    y: [f64; 2],
}

impl Area {
    fn meets(&self, other: &Self) -> bool {
        let cross = |a: [f64; 2], b: [f64; 2]| a[0] < b[1] && b[0] < a[1];
        cross(self.x, other.x) && cross(self.y, other.y)
    }

    fn inside(&self, plot: &Plot) -> bool {
        self.x[0] >= plot.left && self.x[1] <= plot.right && self.y[0] >= plot.top && self.y[1] <= plot.bottom
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Point, Series};

    fn placed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let points = points.iter().map(|&(x, y)| Point { x, y, label: "λ = 8".into(), ..Point::default() });
        let axis = || Axis { range: Some((0.0, 1.0)), ..Axis::default() };
        let series = vec![Series { points: points.collect(), ..Series::default() }];
        let chart = Chart { x: axis(), y: axis(), series, references: Vec::new() };
        let plot = Plot::new(&chart, [0.0, 400.0], [0.0, 300.0]);
        place(&chart, &plot).iter().map(|label| (label.x - plot.left, label.y)).collect()
    }

    #[test]
    fn labels_of_points_that_lie_together_do_not_cover_each_other() {
        let apart = placed(&[(0.5, 0.5), (0.9, 0.9)]);
        assert_eq!(apart.len(), 2);
        // Six points on one spot: four places around it, the rest is left out.
        let together = placed(&[(0.5, 0.5); 6]);
        assert_eq!(together.len(), 4);
        for (i, a) in together.iter().enumerate() {
            assert!(together[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn a_label_stays_on_the_plot() {
        let [(x, y)] = placed(&[(1.0, 1.0)])[..] else { panic!("one label") };
        assert!(x < 362.0 && y > 6.0, "left of and below the corner: {x} {y}");
    }
}
