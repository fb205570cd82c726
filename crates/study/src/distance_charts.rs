//! Charts of distances: the share of images that are farther than every ε, and the interval of each image.

use tarrl_attacks::Norm;
use tarrl_eval::{RadiusInterval, survivors};
use tarrl_report::{Axis, Chart, Mark, Point, Scale, Series};

/// The share of images in per cent whose distance is above ε, for each of several lists of distances under their labels; an
/// image without a distance counts at every ε.
///
/// The axis is logarithmic, because what is certified is far below what is found, and begins below the least of all.
pub fn curve(norm: Norm, title: &str, lists: Vec<(String, Vec<Option<f64>>)>) -> Chart {
    let mut series: Vec<Series> =
        lists.into_iter().map(|(label, distances)| steps(label, &distances)).collect();
    let positive = series.iter().flat_map(|series| series.points.iter().map(|point| point.x));
    let ends = positive.filter(|x| *x > 0.0).fold(None, |ends: Option<(f64, f64)>, x| {
        let (least, most) = ends.unwrap_or((x, x));
        Some((least.min(x), most.max(x)))
    });
    let (low, high) = ends.map_or((0.5, 1.0), |(least, most)| (0.5 * least, most));
    for series in &mut series {
        series.points.iter_mut().for_each(|point| point.x = point.x.max(low));
        let last = series.points.last().map_or(0.0, |point| point.y);
        series.points.push(Point { x: high, y: last, ..Point::default() });
    }
    Chart {
        x: Axis { title: format!("radius ε ({norm})"), scale: Scale::Log, ..Axis::default() },
        y: Axis { title: title.to_owned(), range: Some((0.0, 100.0)), ..Axis::default() },
        series,
        references: Vec::new(),
    }
}

fn steps(label: String, distances: &[Option<f64>]) -> Series {
    let percent = 100.0 / distances.len() as f64;
    let point = |(x, count): (f64, usize)| Point { x, y: count as f64 * percent, ..Point::default() };
    Series { label, points: survivors(distances).into_iter().map(point).collect(), mark: Mark::Line }
}

/// What was found and what is certified of the same images, as [`curve`] takes it; without the second where nothing can be
/// certified.
pub fn found_and_certified(label: &str, intervals: &[RadiusInterval]) -> Vec<(String, Vec<Option<f64>>)> {
    let mut lists = vec![(label.to_owned(), intervals.iter().map(|interval| interval.found).collect())];
    let certified: Option<Vec<f64>> = intervals.iter().map(|interval| interval.certified).collect();
    lists.extend(
        certified.map(|all| (format!("{label}, certified"), all.into_iter().map(Some).collect::<Vec<_>>())),
    );
    lists
}

/// A bar for each image, from the certified radius to the distance found, by the latter; without those whose distance is 0
/// or not known.
pub fn intervals(norm: Norm, label: &str, intervals: &[RadiusInterval]) -> Chart {
    let of = |interval: &RadiusInterval| {
        let found = interval.found.filter(|found| *found > 0.0)?;
        Some((interval.certified.unwrap_or(0.0), found))
    };
    let mut known: Vec<(f64, f64)> = intervals.iter().filter_map(of).collect();
    known.sort_by(|a, b| a.1.total_cmp(&b.1));
    let bar = |(i, &(certified, found)): (usize, &(f64, f64))| Point {
        x: (i + 1) as f64,
        y: 0.5 * (certified + found),
        half_width: Some(0.5 * (found - certified)),
        label: String::new(),
    };
    let points = known.iter().enumerate().map(bar).collect();
    Chart {
        x: Axis { title: "image, by the distance found".to_owned(), ..Axis::default() },
        y: Axis { title: format!("distance ({norm})"), ..Axis::default() },
        series: vec![Series { label: label.to_owned(), points, mark: Mark::Points }],
        references: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: of three images one is wrong, one is at 0.4, one has no distance; two are certified up to 0.1.
    #[test]
    fn curves_fall_at_each_distance_and_the_certified_one_lies_below() {
        let found = [Some(0.0), Some(0.4), None];
        let certified = [Some(0.0), Some(0.1), Some(0.1)];
        let of = |i: usize| RadiusInterval { certified: certified[i], found: found[i] };
        let all: Vec<RadiusInterval> = (0..3).map(of).collect();
        let chart = curve(Norm::L2, "accuracy", found_and_certified("SimCLR", &all));
        let points = |i: usize| -> Vec<(f64, f64)> {
            chart.series[i].points.iter().map(|point| (point.x, point.y.round())).collect()
        };
        assert_eq!(points(0), [(0.05, 67.0), (0.4, 67.0), (0.4, 33.0), (0.4, 33.0)]);
        assert_eq!(points(1), [(0.05, 67.0), (0.1, 67.0), (0.1, 33.0), (0.1, 33.0), (0.1, 0.0), (0.4, 0.0)]);
        let bars = intervals(Norm::L2, "SimCLR", &all);
        let bar = &bars.series[0].points[..];
        assert!(
            matches!(bar, [Point { y: 0.25, half_width: Some(half), .. }] if (half - 0.15).abs() < 1e-12)
        );
        let unknown = [RadiusInterval { certified: None, found: Some(1.0) }];
        assert_eq!(found_and_certified("SimCLR", &unknown).len(), 1);
    }
}
