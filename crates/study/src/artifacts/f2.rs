//! F2: clean against robust accuracy as λ moves.

use tarrl_report::{Axis, Chart, Drawing, Figure, Mark, Point, Series};

use super::{Results, accuracy, radius};
use crate::stages::attack;
use crate::study::Row;

/// A curve per divergence, and the methods of T1 as points.
pub(super) fn figure(results: &Results<'_>) -> anyhow::Result<Figure> {
    let profile = &results.lab.profile;
    let epsilon = profile.attack.epsilons[0].value();
    let point = |row: &Row, label: String| -> anyhow::Result<Point> {
        let attacks: Vec<attack::Output> = results.of(row, |jobs| jobs.attack, |f| f.parse())?;
        let clean = accuracy(&attacks.iter().map(|a| (a.clean_correct, a.n)).collect::<Vec<_>>());
        let robust = accuracy(&attacks.iter().map(|a| (a.correct_at(epsilon), a.n)).collect::<Vec<_>>());
        Ok(Point { x: clean.mean, y: robust.mean, half_width: robust.half_width, label })
    };
    let mut series = Vec::new();
    for curve in &results.study.curves {
        let points = curve.points.iter().map(|(weight, row)| point(row, format!("λ = {weight}")));
        let points = points.collect::<anyhow::Result<_>>()?;
        series.push(Series { label: curve.label.clone(), points, mark: Mark::Path });
    }
    for row in &results.study.rows {
        let points = vec![point(row, String::new())?];
        series.push(Series { label: row.method.title.clone(), points, mark: Mark::Points });
    }
    Ok(Figure {
        id: "F2".into(),
        title: format!("Clean against robust accuracy at {}", radius(epsilon)),
        caption: format!(
            "Each curve is one divergence of the regularizer with growing weight λ; single marks are the methods of T1. \
             Up and to the right is better. Robust is PGD-{} on the linear head.",
            profile.attack.steps
        ),
        drawing: Drawing::Chart(Chart {
            x: Axis { title: "clean accuracy in per cent".into(), ..Axis::default() },
            y: Axis { title: "robust accuracy in per cent".into(), ..Axis::default() },
            series,
            references: Vec::new(),
        }),
    })
}
