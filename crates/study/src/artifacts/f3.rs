//! F3: how far attacks raise the loss, against C·R.

use tarrl_report::{Axis, Chart, Drawing, Figure, Mark, Point, Reference, Scale, Series};

use super::{Results, radius};
use crate::stages::bound::Output;

/// Rises below this are shown as this: the axis is logarithmic.
const LEAST: f64 = 1e-4;

/// A point for each encoder and classifying task at the largest radius, below the line of the bound.
pub(super) fn figure(results: &Results<'_>) -> anyhow::Result<Figure> {
    let epsilons = results.lab.profile.bound_epsilons();
    let mut series = Vec::new();
    for row in &results.study.rows {
        let outputs: Vec<Output> = results.of(row, |jobs| jobs.bound, |f| f.parse())?;
        for (i, &epsilon) in epsilons.iter().enumerate() {
            let tasks = outputs.iter().flat_map(|output| &output.levels[i].tasks);
            let points = tasks.filter(|task| task.correct.is_some()).map(|task| Point {
                x: task.rise.max(LEAST),
                y: (task.attacked.mean - task.clean.mean).max(LEAST),
                ..Point::default()
            });
            let label = format!("{}, {}", row.method.title, radius(epsilon));
            series.push(Series { label, points: points.collect(), mark: Mark::Points });
        }
    }
    Ok(Figure {
        id: "F3".into(),
        title: "What attacks add to the loss, against C·R".into(),
        caption: "Each point is one encoder with one head: the constant of the head times the mean of the largest \
                  displacements that attacks reached, and how much attacks raised the mean loss. The bound says that no \
                  point lies above the line."
            .into(),
        drawing: Drawing::Chart(Chart {
            x: Axis { title: "C(h) R(f), nats".into(), scale: Scale::Log, ..Axis::default() },
            y: Axis {
                title: "attacked loss − clean loss, nats".into(),
                scale: Scale::Log,
                ..Axis::default()
            },
            series,
            references: vec![Reference::identity("the bound")],
        }),
    })
}
